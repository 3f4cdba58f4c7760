//! The progress of a recovery, by time: it goes through a period, the newest first, and
//! nobody has counted what lies in it.

use jiff::{SignedDuration, Timestamp};

use super::archive;
use super::recovery::{Recovery, RecoveryKind, RecoveryPass, RecoveryState};

/// How much of its period `recovery` has gone through, 0 to 1. What is kept for
/// `retention_days` is not older, and nothing is newer than the recovery.
pub fn progress(recovery: &Recovery, retention_days: u32) -> f64 {
    // The second look is at what came about when it was asked for.
    if recovery.state == RecoveryState::Done || recovery.pass == RecoveryPass::Second {
        return 1.0;
    }
    let end = recovery.until.min(recovery.created);
    let start = match recovery.kind {
        // Its day may be over, and is kept until it is written.
        RecoveryKind::Archive => recovery.since,
        _ => recovery.since.max(oldest(recovery.created, retention_days)),
    };
    let whole = end.duration_since(start).as_secs_f64();
    if whole <= 0.0 {
        return 0.0;
    }
    let left = archive::left(recovery).unwrap_or_default();
    let left = left.iter().map(|span| {
        let end = span.end().min(end);
        end.duration_since(span.since.max(start))
            .as_secs_f64()
            .max(0.0)
    });
    let done = (1.0 - left.sum::<f64>() / whole).clamp(0.0, 1.0);
    (done * 1000.0).round() / 1000.0
}

fn oldest(now: Timestamp, retention_days: u32) -> Timestamp {
    let kept = SignedDuration::from_hours(24 * i64::from(retention_days));
    now.saturating_sub(kept).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{ProjectId, RecoveryId};

    const DAY_MS: i64 = 86_400_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
    }

    /// One of the last ten days, of which five are kept.
    fn recovery(kind: RecoveryKind, cursor: Option<i64>) -> Recovery {
        let (id, project) = (RecoveryId::new(0, [0; 10]), ProjectId::new(0, [0; 10]));
        let cursor = cursor.map(|millis| format!("{}#evt_x", at(millis).as_millisecond()));
        Recovery {
            cursor,
            ..Recovery::new(id, project, kind, at(-10 * DAY_MS)..at(DAY_MS), at(0))
        }
    }

    #[test]
    fn it_rises_with_the_position_in_time() {
        let of = |cursor| progress(&recovery(RecoveryKind::Recover, cursor), 5);
        assert_eq!(of(None), 0.0);
        assert_eq!(of(Some(-1)), 0.0);
        assert_eq!(of(Some(-DAY_MS)), 0.2);
        assert_eq!(of(Some(-4 * DAY_MS)), 0.8);
        assert_eq!(of(Some(-9 * DAY_MS)), 1.0);
        let archive = recovery(RecoveryKind::Archive, Some(-4 * DAY_MS));
        assert_eq!(progress(&archive, 5), 0.4);
    }

    #[test]
    fn what_is_done_is_whole_and_what_ended_before_stays_where_it_was() {
        let mut ended = recovery(RecoveryKind::Retry, Some(-DAY_MS));
        for (state, part) in [
            (RecoveryState::Canceled, 0.2),
            (RecoveryState::Failed, 0.2),
            (RecoveryState::Done, 1.0),
        ] {
            ended.state = state;
            assert_eq!(progress(&ended, 5), part);
        }
        let mut second = recovery(RecoveryKind::ReplayMissing, None);
        second.pass = RecoveryPass::Second;
        assert_eq!(progress(&second, 5), 1.0);
    }

    #[test]
    fn spans_side_by_side_count_together_and_no_period_is_never_begun() {
        let mut archive = recovery(RecoveryKind::Archive, None);
        archive.until = archive.created;
        let span = |since: i64, until: i64, after: i64| {
            let after = format!("{}#evt_x", at(after).as_millisecond());
            serde_json::json!({ "since": at(since), "until": at(until), "after": after })
        };
        let spans = [
            span(-10 * DAY_MS, -5 * DAY_MS, -6 * DAY_MS),
            span(-5 * DAY_MS, 0, -2 * DAY_MS),
        ];
        archive.cursor = Some(serde_json::to_string(&spans).unwrap());
        assert_eq!(progress(&archive, 5), 0.3);
        let mut ahead = recovery(RecoveryKind::Recover, None);
        (ahead.since, ahead.until) = (at(DAY_MS), at(2 * DAY_MS));
        assert_eq!(progress(&ahead, 5), 0.0);
    }
}
