//! stub
use crate::model::access::Access;
use crate::model::api_key::Scope;
use crate::model::audit::Actor;
use crate::model::id::ProjectId;
use std::sync::Arc;
#[derive(Debug, Clone)]
pub struct Session {
    pub scopes: Vec<Scope>,
    pub is_admin: bool,
}
#[derive(Debug, Clone)]
pub struct SessionCaller {
    pub access: Access,
    pub actor: Actor,
    pub scopes: Vec<Scope>,
    pub is_admin: bool,
}
#[derive(Debug, Clone)]
pub struct SessionToken(String);
impl Session {
    pub fn reaches(&self, _p: &ProjectId) -> bool {
        true
    }
    pub fn caller(&self, p: &ProjectId) -> SessionCaller {
        SessionCaller {
            access: Access::to_project(p),
            actor: Actor::Admin,
            scopes: self.scopes.clone(),
            is_admin: true,
        }
    }
    pub fn project(&self) -> Option<&ProjectId> {
        None
    }
    pub fn name(&self) -> Arc<str> {
        "x".into()
    }
}
impl SessionToken {
    pub fn parse(t: &str) -> Option<Self> {
        Some(Self(t.into()))
    }
    pub fn csrf_token(&self) -> String {
        self.0.clone()
    }
    pub fn is_csrf_token(&self, g: &str) -> bool {
        g == self.0
    }
}
