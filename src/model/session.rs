//! Sessions: who is signed in to the console, what they reach there and for how long,
//! and the tokens that prove it.
//!
//! A browser holds a [`SessionToken`]; the server keeps what its hash stands for. Forms
//! carry a second token that only whoever holds the first can make.

use std::num::NonZeroU32;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::access::Access;
use super::api_key::Scope;
use super::audit::Actor;
use super::id::{KeyId, ProjectId, base32, is_base32};

/// How long a session lasts that nothing is asked with.
pub const IDLE_MAX: SignedDuration = SignedDuration::from_mins(30);
/// How long a session lasts, however often it is used.
pub const AGE_MAX: SignedDuration = SignedDuration::from_hours(12);
/// How often it is written down, at most, when a session was last seen.
pub const TOUCHED_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// How long a link works that signs in once.
pub const LINK_AGE_MAX: SignedDuration = SignedDuration::from_hours(1);

/// Who is signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Person {
    /// Whoever holds the admin key.
    Admin,
    /// Whoever followed a link that the process or its command line printed, and so is at
    /// the machine: may do what the admin may.
    Link,
    /// Whoever holds an API key.
    Key {
        /// The key's public name.
        id: KeyId,
        /// The hash of its text, to see whether it is still in force.
        hash: [u8; 32],
    },
    /// A person that an identity provider vouches for.
    User {
        /// What the provider calls them.
        name: Arc<str>,
    },
    /// A customer of the startup, by a link that it made for a tenant.
    Customer,
}

/// What there is for a session to see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Every project.
    Deployment,
    /// One project.
    Project(ProjectId),
    /// What of a project is one tenant's.
    Tenant(ProjectId, Arc<str>),
}

impl Reach {
    /// What of `project` it reaches; none if that is another's.
    pub fn access(&self, project: &ProjectId) -> Option<Access> {
        let (own, tenant) = match self {
            Self::Deployment => (project, None),
            Self::Project(own) => (own, None),
            Self::Tenant(own, tenant) => (own, Some(tenant.clone())),
        };
        (own == project).then(|| Access::new(own.clone(), tenant))
    }

    /// The only project it reaches, if it is only one.
    pub fn project(&self) -> Option<&ProjectId> {
        match self {
            Self::Deployment => None,
            Self::Project(project) | Self::Tenant(project, _) => Some(project),
        }
    }

    /// The only tenant it reaches, if it is only one.
    pub fn tenant(&self) -> Option<&Arc<str>> {
        match self {
            Self::Deployment | Self::Project(_) => None,
            Self::Tenant(_, tenant) => Some(tenant),
        }
    }
}

/// What a person of an organisation may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// See everything, change nothing.
    Viewer,
    /// Do whatever an API key can.
    Operator,
    /// Do whatever the admin key and an API key can.
    Admin,
}

impl Role {
    /// The scopes it has in every project.
    pub fn scopes(self) -> &'static [Scope] {
        match self {
            Self::Viewer => &[Scope::EventsRead, Scope::EndpointsRead, Scope::MetersRead],
            Self::Operator | Self::Admin => &Scope::ALL,
        }
    }

    /// Whether it may do what takes the admin key.
    pub fn is_admin(self) -> bool {
        self == Self::Admin
    }
}

/// One person's time at the console, from signing in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Who is signed in.
    pub person: Person,
    /// What there is for them to see.
    pub reach: Reach,
    /// What they may do in it.
    pub scopes: Arc<[Scope]>,
    /// Whether they may do what takes the admin key.
    pub is_admin: bool,
    /// When they signed in.
    pub created: Timestamp,
    /// When something was last asked with it, to [`TOUCHED_EVERY`].
    pub last_seen: Timestamp,
    /// When it is over at the latest.
    pub ends: Timestamp,
}

impl Session {
    /// The session of `person`, who signs in at `now` and has `role` in all projects.
    pub fn with_role(person: Person, role: Role, now: Timestamp) -> Self {
        let mut session = Self::new(person, Reach::Deployment, role.scopes().into(), now);
        session.is_admin = role.is_admin();
        session
    }

    /// The session of `person`, who signs in at `now` and may do what `scopes` name in
    /// `reach`, and nothing that takes the admin key.
    pub fn new(person: Person, reach: Reach, scopes: Arc<[Scope]>, now: Timestamp) -> Self {
        Self {
            person,
            reach,
            scopes,
            is_admin: false,
            created: now,
            last_seen: now,
            ends: now.saturating_add(AGE_MAX).unwrap_or(Timestamp::MAX),
        }
    }

    /// The same, of who signs in at `now`.
    pub fn begun_at(self, now: Timestamp) -> Self {
        let begun = Self::new(self.person, self.reach, self.scopes, now);
        Self {
            is_admin: self.is_admin,
            ..begun
        }
    }

    /// Whether it is over at `now`.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.ends || now.duration_since(self.last_seen) >= IDLE_MAX
    }

    /// Whether it is to be written down that it was seen at `now`.
    pub fn is_to_be_touched(&self, now: Timestamp) -> bool {
        now.duration_since(self.last_seen) >= TOUCHED_EVERY
    }

    /// When it is over if nothing more is asked with it after `now`.
    pub fn lasts_until(&self, now: Timestamp) -> Timestamp {
        let idle = now.saturating_add(IDLE_MAX).unwrap_or(Timestamp::MAX);
        idle.min(self.ends)
    }

    /// Who is meant by "all sessions of this person", in one text.
    pub fn subject(&self) -> String {
        match (&self.person, &self.reach) {
            (Person::Customer, Reach::Tenant(project, tenant)) => format!("{project}/{tenant}"),
            _ => self.actor().to_string(),
        }
    }

    /// Who it is, to the audit log and the rate limit.
    pub fn actor(&self) -> Actor {
        match (&self.person, self.reach.tenant()) {
            (Person::Admin | Person::Link, _) => Actor::Admin,
            (Person::Key { id, .. }, None) => Actor::Key(id.clone()),
            (Person::Key { id, .. }, Some(tenant)) => Actor::TenantKey(id.clone(), tenant.clone()),
            (Person::User { name }, _) => Actor::User(name.clone()),
            (Person::Customer, tenant) => Actor::Customer(tenant.cloned().unwrap_or_default()),
        }
    }

    /// The only project it reaches, if it is only one.
    pub fn project(&self) -> Option<&ProjectId> {
        self.reach.project()
    }

    /// Who it is, in a word.
    pub fn name(&self) -> Arc<str> {
        match (&self.person, self.reach.tenant()) {
            (Person::Admin, _) => "Admin".into(),
            (Person::Link, _) => "This machine".into(),
            (Person::Key { id, .. }, _) => id.as_str().into(),
            (Person::User { name }, _) => name.clone(),
            (Person::Customer, tenant) => tenant.cloned().unwrap_or_default(),
        }
    }

    /// The caller of the API that it is in `project`; none if it does not reach that.
    pub fn caller(&self, project: &ProjectId) -> Option<SessionCaller> {
        let access = self.reach.access(project)?;
        Some(self.caller_with(Some(access)))
    }

    /// The caller of the API that it is outside of all projects.
    pub fn caller_of_no_project(&self) -> SessionCaller {
        self.caller_with(None)
    }

    fn caller_with(&self, access: Option<Access>) -> SessionCaller {
        SessionCaller {
            access,
            actor: self.actor(),
            scopes: self.scopes.clone(),
            is_admin: self.is_admin,
            sees_all_projects: self.reach == Reach::Deployment,
            rate_limit: None,
        }
    }
}

/// The caller of a request of this process to its own API, in place of a key. Put into
/// a request's extensions, which nobody can send from outside.
#[derive(Debug, Clone)]
pub struct SessionCaller {
    /// What of which project it can see; nothing of any if none.
    pub access: Option<Access>,
    /// Who it is, to the audit log and the rate limit.
    pub actor: Actor,
    /// What it may do.
    pub scopes: Arc<[Scope]>,
    /// Whether it may do what takes the admin key.
    pub is_admin: bool,
    /// Whether it may see which projects there are.
    pub sees_all_projects: bool,
    /// Events a second it may publish; the configured default if none.
    pub rate_limit: Option<NonZeroU32>,
}

/// What every session token begins with.
const SESSION_PREFIX: &str = "mrs_";
/// What every link that signs in once has for a token begins with.
const LINK_PREFIX: &str = "mrl_";
/// Characters of 256 random bits, five each.
const DIGITS: usize = 52;
/// Characters of the hash of whose session it is: 80 bits.
const PERSON_DIGITS: usize = 16;

/// The secret of a session: 256 random bits, and a hash of whose session it is, so that
/// one look at the store finds both the session and whether all of that person's are void.
#[derive(Clone)]
pub struct SessionToken(Box<str>);

impl SessionToken {
    /// A new token for `session`.
    pub fn new(session: &Session, random: [u8; 32]) -> Self {
        let secret = base32(&random);
        let person = Self::person_of(&session.subject());
        Self(format!("{SESSION_PREFIX}{secret}{person}").into())
    }

    /// `text`, if it has the form of a token: no other is worth a look.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(SESSION_PREFIX)?;
        let is_token = digits.len() == DIGITS + PERSON_DIGITS && is_base32(digits);
        is_token.then(|| Self(text.into()))
    }

    /// Its text, for the cookie alone.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored and looked up in its stead. A fast hash is enough for so many
    /// random bits.
    pub fn hash(&self) -> [u8; 32] {
        sha256(&self.0)
    }

    /// What the session is called where nobody may be let in by it: `ses_…`.
    pub fn session_id(&self) -> String {
        format!("ses_{}", base32(&self.hash()[..10]))
    }

    /// The hash of whose session it says it is.
    pub fn person(&self) -> &str {
        &self.0[self.0.len() - PERSON_DIGITS..]
    }

    /// The same of whoever is meant by `subject` ([`Session::subject`]).
    pub fn person_of(subject: &str) -> String {
        base32(&sha256(subject)[..10])
    }

    /// What the session's forms carry: known to whoever holds the token alone, and of no
    /// use for finding it out.
    pub fn csrf_token(&self) -> String {
        base32(self.csrf_tag().as_ref())
    }

    /// Whether `text` is what the session's forms carry. Takes as long for any text of
    /// that length.
    pub fn is_csrf_token(&self, text: &str) -> bool {
        self.csrf_token().as_bytes().ct_eq(text.as_bytes()).into()
    }

    fn csrf_tag(&self) -> hmac::Tag {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes());
        hmac::sign(&key, b"csrf")
    }
}

impl std::fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionToken(***)")
    }
}

/// The token of a link that signs in once, from 32 random bytes.
pub fn format_link(random: [u8; 32]) -> String {
    format!("{LINK_PREFIX}{}", base32(&random))
}

/// Whether `text` has the form of such a token: no other is worth a look.
pub fn is_link(text: &str) -> bool {
    let digits = text.strip_prefix(LINK_PREFIX);
    digits.is_some_and(|digits| digits.len() == DIGITS && is_base32(digits))
}

/// What is stored and looked up in a link token's stead.
pub fn link_hash(text: &str) -> [u8; 32] {
    sha256(text)
}

fn sha256(text: &str) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn session() -> Session {
        Session::with_role(Person::Admin, Role::Admin, at(0))
    }

    fn project(n: u8) -> ProjectId {
        ProjectId::new(0, [n; 10])
    }

    #[test]
    fn a_session_is_over_when_it_idles_and_in_the_end() {
        let mut session = session();
        assert!(!session.is_over(at(0)) && !session.is_over(at(30 * 60 - 1)));
        assert!(session.is_over(at(30 * 60)));
        session.last_seen = at(12 * 3600 - 60);
        assert!(!session.is_over(at(12 * 3600 - 1)));
        assert!(session.is_over(at(12 * 3600)));
        assert_eq!(session.lasts_until(session.last_seen), at(12 * 3600));
        assert_eq!(session.lasts_until(at(60)), at(31 * 60));
        // Another instance's clock may be ahead.
        session.last_seen = at(100);
        assert!(!session.is_over(at(0)) && !session.is_to_be_touched(at(0)));
    }

    #[test]
    fn a_session_is_written_down_once_a_minute() {
        let session = session();
        assert!(!session.is_to_be_touched(at(59)));
        assert!(session.is_to_be_touched(at(60)));
    }

    #[test]
    fn a_session_reaches_its_own_projects_part_alone() {
        let tenant = Reach::Tenant(project(1), "acme".into());
        let whole = Reach::Project(project(1));
        for (reach, own, other) in [
            (&tenant, Some(Some("acme")), None),
            (&whole, Some(None), None),
            (&Reach::Deployment, Some(None), Some(None)),
        ] {
            for (number, expected) in [(1, own), (2, other)] {
                let access = reach.access(&project(number));
                assert_eq!(access.as_ref().map(Access::tenant), expected, "{reach:?}");
                let is_of = access.is_none_or(|access| *access.project() == project(number));
                assert!(is_of, "{reach:?}");
            }
        }
    }

    #[test]
    fn a_viewer_may_change_nothing_and_an_operator_is_no_admin() {
        let may_write = |role: Role| {
            let mut scopes = role.scopes().iter();
            scopes.any(|scope| scope.as_str().ends_with(":write"))
        };
        assert!(!may_write(Role::Viewer) && may_write(Role::Operator));
        assert!(!Role::Viewer.is_admin() && !Role::Operator.is_admin() && Role::Admin.is_admin());
        let viewer = Session::with_role(Person::User { name: "a".into() }, Role::Viewer, at(0));
        let caller = viewer.caller(&project(1)).unwrap();
        assert!(!caller.is_admin && caller.scopes.iter().eq(Role::Viewer.scopes()));
    }

    #[test]
    fn who_is_signed_in_has_one_name() {
        let key = |tenant: Option<&str>| {
            let id = KeyId::new(0, [1; 10]);
            let reach = match tenant {
                Some(tenant) => Reach::Tenant(project(1), tenant.into()),
                None => Reach::Project(project(1)),
            };
            let person = Person::Key { id, hash: [0; 32] };
            Session::new(person, reach, [].into(), at(0))
        };
        assert_eq!(session().subject(), "admin");
        let link = Session::with_role(Person::Link, Role::Admin, at(0));
        assert_eq!(link.subject(), "admin");
        assert_eq!(key(None).subject(), key(Some("acme")).subject());
        assert!(
            matches!(key(Some("acme")).actor(), Actor::TenantKey(_, tenant) if &*tenant == "acme")
        );
        let customer = |number: u8| {
            let reach = Reach::Tenant(project(number), "acme".into());
            Session::new(Person::Customer, reach, [].into(), at(0))
        };
        assert_ne!(customer(1).subject(), customer(2).subject());
    }

    #[test]
    fn a_session_is_stored_and_read_again() {
        let person = Person::Key {
            id: KeyId::new(0, [1; 10]),
            hash: [9; 32],
        };
        let reach = Reach::Tenant(project(1), "\u{202e}a\"".into());
        let stored = Session::new(person, reach, Scope::ALL[..2].into(), at(3));
        let text = serde_json::to_string(&stored).unwrap();
        assert_eq!(serde_json::from_str::<Session>(&text).unwrap(), stored);
    }

    #[test]
    fn a_token_has_its_form_and_nothing_else_has() {
        let token = SessionToken::new(&session(), [7; 32]);
        let text = token.expose();
        assert!(SessionToken::parse(text).is_some_and(|read| read.hash() == token.hash()));
        assert_eq!(token.person(), SessionToken::person_of("admin"));
        assert_ne!(token.person(), SessionToken::person_of("user:admin"));
        assert_ne!(token.hash(), SessionToken::new(&session(), [8; 32]).hash());
        for text in [
            "",
            SESSION_PREFIX,
            &text[1..],
            &text[..text.len() - 1],
            &format!("{text}0"),
            &text.to_uppercase(),
            &text.replace("mrs_", "mrl_"),
            &format!("{SESSION_PREFIX}\u{e9}{}", &text[6..]),
            &format_link([7; 32]),
        ] {
            assert!(SessionToken::parse(text).is_none(), "{text}");
        }
        assert!(is_link(&format_link([7; 32])) && !is_link(text));
    }

    #[test]
    fn a_form_token_is_of_one_session() {
        let token = SessionToken::new(&session(), [7; 32]);
        let csrf = token.csrf_token();
        assert!(token.is_csrf_token(&csrf));
        let other = SessionToken::new(&session(), [8; 32]);
        for text in [
            "",
            &csrf[1..],
            &other.csrf_token(),
            token.expose(),
            &format!("{csrf}0"),
        ] {
            assert!(!token.is_csrf_token(text), "{text}");
        }
        assert!(!format!("{token:?}").contains(&token.expose()[4..]));
    }
}
