//! A browser, as far as the console needs one: it keeps cookies and sends forms.

use std::collections::BTreeMap;

use axum::body::Body;
use http::request::Builder;
use http::{Method, Request, StatusCode};
use millrace::http::client_address::Peer;
use millrace::model::session::SessionToken;
use url::form_urlencoded;

use super::harness::{Answer, Harness};

pub struct Browser<'a> {
    pub harness: &'a Harness,
    /// What is in the header `Host`.
    pub host: &'a str,
    pub cookies: BTreeMap<String, String>,
    /// Where it asks from, if that matters.
    pub peer: Option<Peer>,
}

impl<'a> Browser<'a> {
    pub fn new(harness: &'a Harness) -> Self {
        Self {
            harness,
            host: "localhost",
            cookies: BTreeMap::new(),
            peer: None,
        }
    }

    /// One whose person has signed in with `key`.
    pub async fn signed_in(harness: &'a Harness, key: &str) -> Self {
        let mut browser = Self::new(harness);
        let answer = browser.sign_in(&[("key", key)]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", text(&answer));
        browser
    }

    /// Sends `fields` with the form of the door.
    pub async fn sign_in(&mut self, fields: &[(&str, &str)]) -> Answer {
        let door = self.get("/console/sign-in").await;
        let door = hidden(&text(&door), "door").unwrap_or_default();
        let fields = [&[("door", &*door)], fields].concat();
        self.post_as_is("/console/sign-in", &fields).await
    }

    /// Signs in and comes back to where one is sent.
    pub async fn get(&mut self, path: &str) -> Answer {
        let request = self.request(Method::GET, path);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// Sends a form as a page of the session has it.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = self.token().expect("somebody has signed in");
        let csrf = token.csrf_token();
        let fields = [&[("csrf", &*csrf)], fields].concat();
        self.post_as_is(path, &fields).await
    }

    /// Sends these fields and no others.
    pub async fn post_as_is(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let request = self.form(path, fields);
        self.send(request).await
    }

    /// The request of a form.
    pub fn form(&self, path: &str, fields: &[(&str, &str)]) -> Request<Body> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        let request = self.request(Method::POST, path);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(Body::from(form.finish())).unwrap()
    }

    fn request(&self, method: Method, path: &str) -> Builder {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("host", self.host);
        let cookies = self.cookies.iter();
        let cookies: Vec<_> = cookies
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        match self.peer {
            Some(peer) => request.extension(peer),
            None => request,
        }
    }

    /// Sends a request and keeps the cookies that are set.
    pub async fn send(&mut self, request: Request<Body>) -> Answer {
        let answer = self.harness.send(request).await;
        for set in answer.headers.get_all("set-cookie") {
            let set = set.to_str().unwrap();
            let (pair, attributes) = set.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// The session's token.
    pub fn token(&self) -> Option<SessionToken> {
        let names = ["millrace", "__Host-millrace"];
        let mut found = names.iter().filter_map(|name| self.cookies.get(*name));
        SessionToken::parse(found.next()?)
    }
}

/// The body, as text.
pub fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.bytes).into_owned()
}

/// Where one is sent.
pub fn location(answer: &Answer) -> &str {
    answer.headers["location"].to_str().unwrap()
}

/// The value of the first hidden field `name` of a page.
pub fn hidden(page: &str, name: &str) -> Option<String> {
    let (_, after) = page.split_once(&format!("name=\"{name}\" value=\""))?;
    Some(after.split_once('"')?.0.to_owned())
}
