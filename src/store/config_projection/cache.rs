//! The cache of projects' configurations: what was read is used while one refresh a
//! project looks, aside, whether it has changed.
//!
//! Whoever asks waits for the first view of a project, and for one that shows what this
//! process has changed; for any other only as long as [`WAIT_MAX`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::error::{Error, Result};
use crate::model::id::ProjectId;
use crate::model::project_config::ProjectConfig;

/// How long a refresh that is under way is waited for where there is a view.
pub(super) const WAIT_MAX: Duration = Duration::from_millis(500);
/// How long a view is used whose revision stays the same: a version that knows of no
/// revisions may change what is there.
const REREAD: Duration = Duration::from_secs(60);

/// Views of projects.
#[derive(Clone)]
pub(super) struct ConfigCache {
    entries: Cache<ProjectId, Arc<Entry>>,
    pub(super) ages: Ages,
}

/// What a view's age means.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ages {
    /// From then on whoever asks waits a moment for a refresh.
    pub(super) ttl: Duration,
    /// From then on it is of no use.
    pub(super) stale_max: Duration,
}

/// What is known of one project.
#[derive(Default)]
pub(super) struct Entry {
    view: Mutex<Option<View>>,
    refresh: Mutex<Option<Refresh>>,
    /// Counts this process's changes, so that what was read before one does not pass
    /// for what is there after it.
    generation: AtomicU64,
}

/// A configuration as it was read.
#[derive(Clone)]
pub(super) struct View {
    pub(super) config: Arc<ProjectConfig>,
    /// Its number, as the event store had it then; zero if it had none.
    pub(super) revision: i64,
    /// When its reading began.
    pub(super) read: Instant,
    /// When the last look began that found it unchanged.
    pub(super) checked: Instant,
    /// The last of this process's changes that it shows.
    pub(super) generation: u64,
    /// Whether it was read at a revision that was known before. At a new one, what that
    /// counts may not be there yet: a replica of the table takes items in any order.
    pub(super) is_settled: bool,
}

/// What a refresh comes to; shared by those who wait for it.
pub(super) type Outcome = Result<Arc<ProjectConfig>, Arc<Error>>;

#[derive(Clone)]
struct Refresh {
    begun: Instant,
    outcome: Shared<BoxFuture<'static, Outcome>>,
}

/// What is to be done with a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freshness {
    /// It is used as it is.
    Fresh,
    /// It is used, and refreshed aside.
    Aging,
    /// A refresh is waited for, for a moment.
    Stale,
    /// It is of no use.
    Useless,
}

impl Ages {
    /// Of a cache that keeps nothing.
    pub(super) const NONE: Self = Self {
        ttl: Duration::ZERO,
        stale_max: Duration::ZERO,
    };
}

impl ConfigCache {
    pub(super) fn new(projects_max: u64, ages: Ages) -> Self {
        let entries = Cache::builder()
            .max_capacity(projects_max)
            .eviction_policy(EvictionPolicy::lru())
            // What is older is read as a whole anyway.
            .time_to_idle(ages.stale_max.max(REREAD))
            .build();
        Self { entries, ages }
    }

    /// What is known of `project`, if anything.
    pub(super) fn known(&self, project: &ProjectId) -> Option<Arc<Entry>> {
        self.entries.get(project)
    }

    /// The configuration of `project`, by a view or by `refresh`, of which one runs at a
    /// time.
    pub(super) async fn get<F>(
        &self,
        project: &ProjectId,
        refresh: impl Fn(Arc<Entry>) -> F,
    ) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let entry = self.entries.get_with_by_ref(project, Arc::default);
        let view = entry.view();
        let now = Instant::now();
        let freshness = view.as_ref().map_or(Freshness::Useless, |view| {
            view.freshness(self.ages, entry.generation(), now)
        });
        let Some(view) = view.filter(|_| freshness != Freshness::Useless) else {
            return entry.outcome(refresh, now).await;
        };
        if freshness == Freshness::Fresh {
            return Ok(view.config);
        }
        let refresh = entry.refreshed(refresh, now);
        if freshness == Freshness::Aging {
            return Ok(view.config);
        }
        let waited = now.duration_since(refresh.begun);
        match tokio::time::timeout(WAIT_MAX.saturating_sub(waited), refresh.outcome).await {
            Ok(Ok(config)) => Ok(config),
            // It is logged where it runs.
            Ok(Err(_)) | Err(_) => Ok(view.config),
        }
    }
}

impl View {
    fn freshness(&self, ages: Ages, generation: u64, now: Instant) -> Freshness {
        let age = now.duration_since(self.checked);
        if self.generation != generation || age >= ages.stale_max {
            Freshness::Useless
        } else if age >= ages.ttl {
            Freshness::Stale
        } else if age >= ages.ttl * 4 / 5 {
            Freshness::Aging
        } else {
            Freshness::Fresh
        }
    }

    /// Whether it is what is there while that has `revision`.
    pub(super) fn is_current(&self, revision: i64, generation: u64, now: Instant) -> bool {
        let is_same = self.revision == revision && self.generation == generation;
        is_same && self.is_settled && now.duration_since(self.read) < REREAD
    }
}

impl Entry {
    pub(super) fn view(&self) -> Option<View> {
        self.lock_view().clone()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Keeps `view`, unless this process has changed something since it was read;
    /// whether it did.
    pub(super) fn keep(&self, view: View) -> bool {
        let mut kept = self.lock_view();
        let is_current = view.generation == self.generation();
        if is_current {
            *kept = Some(view);
        }
        is_current
    }

    /// Makes the view one of before a change of this process's.
    pub(super) fn invalidate(&self) {
        let _view = self.lock_view();
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Puts a change of this process's, that gave what is stored this `revision`, into
    /// the view, if that shows all before it.
    pub(super) fn change(
        &self,
        revision: i64,
        change: impl FnOnce(&ProjectConfig) -> ProjectConfig,
    ) {
        let mut kept = self.lock_view();
        let before = self.generation.fetch_add(1, Ordering::SeqCst);
        let Some(view) = kept.as_mut().filter(|view| view.generation == before) else {
            return;
        };
        view.config = Arc::new(change(&view.config));
        view.generation = before + 1;
        // Another process's change in between is found by the next look.
        if view.revision + 1 == revision {
            view.revision = revision;
        }
    }

    fn lock_view(&self) -> MutexGuard<'_, Option<View>> {
        self.view.lock().expect("nothing panics with it")
    }

    /// What a refresh comes to that shows all of this process's changes so far.
    async fn outcome<F>(self: &Arc<Self>, refresh: impl Fn(Arc<Self>) -> F, now: Instant) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let asked = self.generation();
        let outcome = self.refreshed(&refresh, now).outcome.await;
        let shows_all = || self.view().is_some_and(|view| view.generation >= asked);
        if outcome.is_err() || shows_all() {
            return outcome;
        }
        // It had been read before the last change, and was at its end when it was joined.
        self.refreshed(&refresh, Instant::now()).outcome.await
    }

    /// The refresh that is under way, or one that begins now. It goes on though nobody
    /// waits.
    fn refreshed<F>(self: &Arc<Self>, refresh: impl FnOnce(Arc<Self>) -> F, now: Instant) -> Refresh
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut running = self.refresh.lock().expect("nothing panics with it");
        if let Some(running) = running.as_ref() {
            return running.clone();
        }
        let (work, entry) = (refresh(self.clone()), self.clone());
        let task = tokio::spawn(async move {
            let _end = EndOfRefresh(entry);
            work.await
        });
        let outcome = async {
            task.await
                .unwrap_or_else(|lost| Err(Arc::new(Error::internal(lost))))
        };
        let begun = Refresh {
            begun: now,
            outcome: outcome.boxed().shared(),
        };
        *running = Some(begun.clone());
        begun
    }
}

/// Lets the next refresh begin, whatever became of this one.
struct EndOfRefresh(Arc<Entry>);

impl Drop for EndOfRefresh {
    fn drop(&mut self) {
        *self.0.refresh.lock().expect("nothing panics with it") = None;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;

    const AGES: Ages = Ages {
        ttl: Duration::from_secs(5),
        stale_max: Duration::from_secs(35),
    };

    fn view(revision: i64, generation: u64, read: Instant) -> View {
        View {
            config: Arc::default(),
            revision,
            read,
            checked: read,
            generation,
            is_settled: true,
        }
    }

    #[test]
    fn a_view_ages() {
        let read = Instant::now();
        let view = view(1, 0, read);
        let at = |ms| view.freshness(AGES, 0, read + Duration::from_millis(ms));
        assert_eq!(at(3_999), Freshness::Fresh);
        assert_eq!([at(4_000), at(4_999)], [Freshness::Aging; 2]);
        assert_eq!([at(5_000), at(34_999)], [Freshness::Stale; 2]);
        assert_eq!(at(35_000), Freshness::Useless);
        assert_eq!(view.freshness(AGES, 1, read), Freshness::Useless, "changed");
        let none = Ages {
            ttl: Duration::ZERO,
            stale_max: Duration::ZERO,
        };
        assert_eq!(view.freshness(none, 0, read), Freshness::Useless);
    }

    #[test]
    fn a_view_is_read_again_when_its_revision_is_another_and_once_a_minute() {
        let read = Instant::now();
        let view = view(7, 0, read);
        let minute = read + Duration::from_secs(60);
        assert!(view.is_current(7, 0, read));
        assert!(!view.is_current(8, 0, read));
        assert!(!view.is_current(7, 1, read));
        assert!(!view.is_current(7, 0, minute));
        let unsettled = View {
            is_settled: false,
            ..view
        };
        assert!(!unsettled.is_current(7, 0, read), "it is read once more");
    }

    #[tokio::test]
    async fn who_asks_after_a_change_is_not_answered_from_before_it() {
        let cache = ConfigCache::new(10, AGES);
        let project: ProjectId = "prj_00000000000000000000000001".parse().unwrap();
        let signals: Arc<[Notify; 2]> = Arc::default();
        let refreshes = AtomicU64::new(0);
        let refresh = |entry: Arc<Entry>| {
            let is_first = refreshes.fetch_add(1, Ordering::SeqCst) == 0;
            let signals = signals.clone();
            async move {
                let config = Arc::new(ProjectConfig {
                    is_erased: !is_first,
                    ..ProjectConfig::default()
                });
                let read = view(1, entry.generation(), Instant::now());
                let config_kept = config.clone();
                assert!(entry.keep(View {
                    config: config_kept,
                    ..read
                }));
                if is_first {
                    signals[0].notify_one();
                    signals[1].notified().await;
                }
                Ok(config)
            }
        };
        let changer = async {
            signals[0].notified().await;
            cache.known(&project).unwrap().invalidate();
            let end = async { signals[1].notify_one() };
            tokio::join!(cache.get(&project, refresh), end).0
        };
        let (before, after) = tokio::join!(cache.get(&project, refresh), changer);
        assert!(!before.unwrap().is_erased);
        assert!(after.unwrap().is_erased);
    }

    #[test]
    fn a_change_shows_in_a_view_of_all_before_it_alone() {
        let entry = Entry::default();
        let erase = |config: &ProjectConfig| ProjectConfig {
            is_erased: true,
            ..config.clone()
        };
        assert!(entry.keep(view(7, 0, Instant::now())));
        entry.change(8, erase);
        let shown = entry.view().unwrap();
        assert!(shown.config.is_erased);
        assert_eq!((shown.revision, shown.generation), (8, 1));
        assert_eq!(entry.generation(), 1);
        // Another process's is between.
        entry.change(10, ProjectConfig::clone);
        assert_eq!(entry.view().unwrap().revision, 8, "it is read again");
        // What was read before is not kept.
        assert!(!entry.keep(view(10, 0, Instant::now())));
        entry.invalidate();
        entry.change(11, ProjectConfig::clone);
        let shown = entry.view().unwrap();
        assert_ne!(shown.generation, entry.generation(), "it lacks a change");
    }
}
