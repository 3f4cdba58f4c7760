//! The access of an API key: its project, and of that everything or one tenant's part.
//!
//! Lookups take it instead of the project wherever what they find may be a tenant's, so
//! that none can be asked without saying for whom. What lies outside it is not there.

use std::sync::Arc;

use super::id::ProjectId;
use crate::error::{Error, Result};

/// What a caller may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    project: ProjectId,
    tenant: Option<Arc<str>>,
}

impl Access {
    /// Everything of `project`, or what of it is `tenant`'s.
    pub fn new(project: ProjectId, tenant: Option<Arc<str>>) -> Self {
        Self { project, tenant }
    }

    /// Everything of `project`.
    pub fn to_project(project: &ProjectId) -> Self {
        Self::new(project.clone(), None)
    }

    /// The project it lies in.
    pub fn project(&self) -> &ProjectId {
        &self.project
    }

    /// The only tenant it reaches; none if it reaches them all and what is nobody's.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// Whether it reaches what is `tenant`'s, or nobody's.
    pub fn covers(&self, tenant: Option<&str>) -> bool {
        self.tenant().is_none_or(|own| tenant == Some(own))
    }

    /// Whether it reaches what is `tenant`'s in `project`.
    pub fn covers_in(&self, project: &ProjectId, tenant: Option<&str>) -> bool {
        self.project == *project && self.covers(tenant)
    }

    /// The tenant that what is `asked` for comes to: of whoever reaches only one, that.
    ///
    /// # Errors
    /// [`Error::Forbidden`] when another is asked for.
    pub fn narrow<'a>(&'a self, asked: Option<&'a str>) -> Result<Option<&'a str>> {
        match (asked, self.tenant()) {
            (None, own) => Ok(own),
            (asked, _) if self.covers(asked) => Ok(asked),
            _ => Err(of_another_tenant()),
        }
    }

    /// The same of several; none stands for whatever it reaches.
    ///
    /// # Errors
    /// As [`narrow`](Self::narrow), of any of them.
    pub fn narrow_all<'a>(&'a self, asked: &'a [String]) -> Result<Option<Vec<&'a str>>> {
        if asked.is_empty() {
            return Ok(self.tenant().map(|own| vec![own]));
        }
        let narrowed = asked.iter().map(|one| self.narrow(Some(one)));
        narrowed.collect()
    }

    /// Refuses what is `tenant`'s, or nobody's, if it does not reach that.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is nobody's and should be somebody's;
    /// [`Error::Forbidden`] when it is another's.
    pub fn check(&self, tenant: Option<&str>) -> Result<()> {
        match tenant {
            _ if self.covers(tenant) => Ok(()),
            None => Err(Error::invalid(
                "tenant",
                "expected the tenant of the API key, which is for that one alone",
            )),
            Some(_) => Err(of_another_tenant()),
        }
    }
}

fn of_another_tenant() -> Error {
    Error::Forbidden("tenant: expected that of the API key, which is for one tenant alone".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(tenant: Option<&str>) -> Access {
        Access::new(ProjectId::new(0, [1; 10]), tenant.map(Arc::from))
    }

    #[test]
    fn a_project_reaches_every_tenant_and_what_is_nobodys() {
        let whole = access(None);
        for tenant in [None, Some("a"), Some("")] {
            assert!(whole.covers(tenant));
            assert!(whole.check(tenant).is_ok());
            assert_eq!(whole.narrow(tenant).unwrap(), tenant);
        }
    }

    #[test]
    fn a_tenant_reaches_exactly_its_own() {
        let own = access(Some("a"));
        assert!(own.covers(Some("a")) && own.check(Some("a")).is_ok());
        assert_eq!(own.narrow(None).unwrap(), Some("a"));
        assert_eq!(own.narrow(Some("a")).unwrap(), Some("a"));
        for other in ["b", "A", "a ", "", "aa"] {
            assert!(!own.covers(Some(other)), "{other:?}");
            assert_eq!(own.narrow(Some(other)).unwrap_err().status(), 403);
            assert_eq!(own.check(Some(other)).unwrap_err().status(), 403);
        }
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| name.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(own.narrow_all(&[]).unwrap(), Some(vec!["a"]));
        assert_eq!(own.narrow_all(&names(&["a"])).unwrap(), Some(vec!["a"]));
        assert_eq!(
            own.narrow_all(&names(&["a", "b"])).unwrap_err().status(),
            403
        );
        let whole = access(None);
        assert_eq!(whole.narrow_all(&[]).unwrap(), None);
        assert_eq!(
            whole.narrow_all(&names(&["a", ""])).unwrap(),
            Some(vec!["a", ""])
        );
        assert!(!own.covers(None));
        assert_eq!(own.check(None).unwrap_err().status(), 400);
    }

    #[test]
    fn no_access_reaches_another_project() {
        let (here, there) = (ProjectId::new(0, [1; 10]), ProjectId::new(0, [2; 10]));
        for tenant in [None, Some("a")] {
            assert!(access(tenant).covers_in(&here, Some("a")));
            assert!(!access(tenant).covers_in(&there, Some("a")));
        }
    }
}
