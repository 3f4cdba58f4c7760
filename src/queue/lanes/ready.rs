//! The lanes that have a job which may run, in turn: classes of lanes take turns, in
//! each class projects do, and of each project its lanes.

use std::collections::{HashMap, VecDeque};

use super::budget::Owner;
use super::lane::{Lane, LaneClass};

/// A lane's place in line. What became of the lane since makes another one of it, and
/// then this one counts for nothing.
pub(super) type Ticket = u64;

#[derive(Debug, Default)]
pub(super) struct ReadyLanes {
    lines: [ClassLine; LaneClass::ALL.len()],
    /// The class whose turn it is.
    turn: usize,
    issued: Ticket,
}

/// The lanes of a class.
#[derive(Debug, Default)]
struct ClassLine {
    turns: VecDeque<Owner>,
    lanes: HashMap<Owner, VecDeque<(Lane, Ticket)>>,
}

impl ReadyLanes {
    /// Puts `lane` in line, as the last of its owner's.
    pub fn push(&mut self, class: LaneClass, owner: Owner, lane: Lane) -> Ticket {
        self.issued += 1;
        self.lines[class as usize].push(owner, (lane, self.issued));
        self.issued
    }

    /// Takes out the next lane of a class and an owner that are `admitted`.
    pub fn pop(&mut self, admitted: impl Fn(LaneClass, &Owner) -> bool) -> Option<(Lane, Ticket)> {
        for step in 0..LaneClass::ALL.len() {
            let at = (self.turn + step) % LaneClass::ALL.len();
            let class = LaneClass::ALL[at];
            if let Some(found) = self.lines[at].pop(|owner| admitted(class, owner)) {
                self.turn = at + 1;
                return Some(found);
            }
        }
        None
    }

    /// Whether a lane is in line of a class and an owner that are `admitted`.
    pub fn has(&self, admitted: impl Fn(LaneClass, &Owner) -> bool) -> bool {
        LaneClass::ALL.into_iter().any(|class| {
            let owners = &self.lines[class as usize].turns;
            owners.iter().any(|owner| admitted(class, owner))
        })
    }
}

impl ClassLine {
    fn push(&mut self, owner: Owner, lane: (Lane, Ticket)) {
        let lanes = self.lanes.entry(owner).or_insert_with_key(|owner| {
            self.turns.push_back(owner.clone());
            VecDeque::new()
        });
        lanes.push_back(lane);
    }

    fn pop(&mut self, admitted: impl Fn(&Owner) -> bool) -> Option<(Lane, Ticket)> {
        let at = self.turns.iter().position(admitted)?;
        let owner = self.turns.remove(at)?;
        let lanes = self.lanes.get_mut(&owner)?;
        let lane = lanes.pop_front();
        if lanes.is_empty() {
            self.lanes.remove(&owner);
        } else {
            self.turns.push_back(owner);
        }
        lane
    }
}
