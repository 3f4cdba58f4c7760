//! The audit entry of a change: who made it, and what may be written down of it.

use std::sync::Arc;

use serde_json::{Map, Value};

use jiff::Timestamp;
use url::Url;

use super::access::Access;
use super::id::{KeyId, ProjectId};

/// What stands where a secret was.
const MASK: &str = "***";

/// Who makes a change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// Whoever holds the admin key.
    Admin,
    /// Whoever holds an API key.
    Key(KeyId),
    /// Whoever holds an API key that is for one tenant alone.
    TenantKey(KeyId, Arc<str>),
    /// A person that an identity provider vouches for, by what it calls them.
    User(Arc<str>),
    /// A customer of the startup: the tenant that they are.
    Customer(Arc<str>),
    /// Millrace by itself: an endpoint that answered 410 is disabled.
    Millrace,
}

impl std::fmt::Display for Actor {
    /// `admin`, `key_…`, `user:<name>`, `customer:<tenant>` or `millrace`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Admin => f.write_str("admin"),
            Self::Key(id) | Self::TenantKey(id, _) => id.fmt(f),
            Self::User(name) => write!(f, "user:{name}"),
            Self::Customer(tenant) => write!(f, "customer:{tenant}"),
            Self::Millrace => f.write_str("millrace"),
        }
    }
}

/// Who changes a project's configuration, and when: the first thing that every
/// control-plane write is given.
#[derive(Debug, Clone)]
pub struct AuditContext {
    /// Whose configuration it is.
    pub project: ProjectId,
    /// Who changes it.
    pub actor: Actor,
    /// The time of the change, and of its audit entry.
    pub at: Timestamp,
}

impl AuditContext {
    /// What of the project may be changed.
    pub fn access(&self) -> Access {
        let tenant = match &self.actor {
            Actor::TenantKey(_, tenant) | Actor::Customer(tenant) => Some(tenant.clone()),
            Actor::Admin | Actor::Key(_) | Actor::User(_) | Actor::Millrace => None,
        };
        Access::new(self.project.clone(), tenant)
    }
}

/// What may be written down of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedactedDiff {
    /// What the change replaced; none of something new.
    pub before: Option<Value>,
    /// What the change left; none of something deleted.
    pub after: Option<Value>,
}

/// The change from `before` to `after`: of two objects only the fields that differ,
/// and in no case a secret.
pub fn redacted_diff(before: Option<Value>, after: Option<Value>) -> RedactedDiff {
    let (before, after) = match (before, after) {
        (Some(Value::Object(mut before)), Some(Value::Object(mut after))) => {
            before.retain(|name, old| match after.get(name) {
                Some(new) if new == old => {
                    after.remove(name);
                    false
                }
                _ => true,
            });
            (Some(Value::Object(before)), Some(Value::Object(after)))
        }
        other => other,
    };
    RedactedDiff {
        before: before.map(masked),
        after: after.map(masked),
    }
}

/// `value` without a secret: what is named as one and what a URL has of them is masked.
pub fn masked(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| {
                    let value = masked_field(&name, value);
                    (name, value)
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(masked).collect()),
        plain => plain,
    }
}

fn masked_field(name: &str, value: Value) -> Value {
    match (name, value) {
        (_, Value::Null) => Value::Null,
        // Which headers there are is worth knowing; what they say may be a credential.
        ("headers", Value::Object(headers)) => {
            let masked: Map<_, _> = headers
                .into_iter()
                .map(|(name, _)| (name, MASK.into()))
                .collect();
            Value::Object(masked)
        }
        (name, _) if is_secret(name) => MASK.into(),
        (name, Value::String(text)) if name == "url" || name.ends_with("_url") => {
            masked_url(&text).into()
        }
        (_, value) => masked(value),
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["secret", "password", "token", "authorization", "credential"]
        .iter()
        .any(|word| name.contains(word))
        || matches!(&*name, "key" | "api_key" | "private_key" | "headers")
}

/// Without user, password and the values of the query, any of which may let
/// someone in.
fn masked_url(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else {
        return MASK.into();
    };
    // Refused only for URLs that cannot have a user at all.
    if !url.username().is_empty() {
        let _ = url.set_username(MASK);
    }
    if url.password().is_some() {
        let _ = url.set_password(Some(MASK));
    }
    if url.query().is_some() {
        let names: Vec<_> = url
            .query_pairs()
            .map(|(name, _)| name.into_owned())
            .collect();
        let mut query = url.query_pairs_mut();
        query.clear();
        for name in names {
            query.append_pair(&name, MASK);
        }
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_differs_is_written_down() {
        let before = json!({ "state": "enabled", "tenant": null, "old": 1 });
        let after = json!({ "state": "disabled", "tenant": null, "new": 2 });
        let RedactedDiff { before, after } = redacted_diff(Some(before), Some(after));
        assert_eq!(before, Some(json!({ "state": "enabled", "old": 1 })));
        assert_eq!(after, Some(json!({ "state": "disabled", "new": 2 })));
        let created = redacted_diff(None, Some(json!({ "tenant": null })));
        let tenant = Some(json!({ "tenant": null }));
        assert_eq!((created.before, created.after), (None, tenant));
    }

    #[test]
    fn no_secret_is_written_down_however_deep() {
        let after = json!({
            "url": "https://user:hunter2@example.com/a?sig=hunter2&v=1#f",
            "callback_url": "no url hunter2",
            "signing_secret": "hunter2",
            "headers": { "x-api-key": "hunter2", "accept": "text/plain" },
            "list": [{ "Password": "hunter2", "key": "hunter2", "keys": 3 }],
            "token": null,
        });
        let after = redacted_diff(None, Some(after)).after.unwrap();
        assert!(!after.to_string().contains("hunter2"), "{after}");
        assert_eq!(
            after,
            json!({
                "url": "https://***:***@example.com/a?sig=***&v=***#f",
                "callback_url": "***",
                "signing_secret": "***",
                "headers": { "x-api-key": "***", "accept": "***" },
                "list": [{ "Password": "***", "key": "***", "keys": 3 }],
                "token": null,
            })
        );
    }

    #[test]
    fn a_changed_secret_is_seen_to_have_changed() {
        let RedactedDiff { before, after } = redacted_diff(
            Some(json!({ "url": "https://a.example/?t=1" })),
            Some(json!({ "url": "https://a.example/?t=2" })),
        );
        let masked = Some(json!({ "url": "https://a.example/?t=***" }));
        assert_eq!((before, after), (masked.clone(), masked));
    }
}
