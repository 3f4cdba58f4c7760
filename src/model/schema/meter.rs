//! The meter of a validation: the steps that it may take and the stack that it may
//! use, whatever schema and data make of it together.
//!
//! The library that validates knows no bound of its own, but it sees the data only
//! through [`node`](super::node), where each look is counted. When there are no more
//! steps, the validation is ended from there by unwinding, which is no panic: nothing
//! is reported, and nothing is left behind.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Steps of an error beside its copies: it is some hundred bytes, and none but the first
/// is told.
const ERROR_STEPS: u64 = 32;
/// Bytes of stack that a validation may use: half of what the runtime's threads have.
const STACK_BYTES_MAX: usize = 1024 * 1024;

/// What looking at some things costs more than one step, which the schema says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weights {
    /// Of each element and member, for what the schema has in its place that looks at
    /// nothing.
    pub element: u64,
    /// Of each byte of a name, for the patterns that it is held against.
    pub name_byte: u64,
    /// Of each error, for what it copies of the schema.
    pub error: u64,
    /// Bytes of the path through the schema that an error may have for each level of the
    /// data.
    pub path_bytes: usize,
}

/// A validation's meter.
#[derive(Debug)]
pub(super) struct Meter {
    left: Cell<u64>,
    stack_base: usize,
    weights: Weights,
}

/// There was no step left, or too little stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spent;

impl Meter {
    /// What `validate` answers if that takes `steps` at most.
    pub(super) fn run<T>(
        steps: u64,
        weights: Weights,
        validate: impl FnOnce(&Self) -> T,
    ) -> Result<T, Spent> {
        let meter = Self::new(steps, weights);
        // Nothing is seen again that a validation cut short may have left half done.
        catch_unwind(AssertUnwindSafe(|| validate(&meter))).map_err(|reason| {
            if reason.is::<Spent>() {
                Spent
            } else {
                resume_unwind(reason)
            }
        })
    }

    /// One with so many steps, for what is not ended by it.
    pub(super) fn new(steps: u64, weights: Weights) -> Self {
        Self {
            left: Cell::new(steps),
            stack_base: stack_position(),
            weights,
        }
    }

    /// Takes `steps`, or ends the validation.
    pub(super) fn charge(&self, steps: u64) {
        let is_deep = self.stack_base.abs_diff(stack_position()) > STACK_BYTES_MAX;
        match self.left.get().checked_sub(steps) {
            Some(left) if !is_deep => self.left.set(left),
            _ => resume_unwind(Box::new(Spent)),
        }
    }

    /// Takes the steps of looking at `len` bytes.
    pub(super) fn charge_text(&self, len: usize) {
        self.charge(1 + len as u64 / 16);
    }

    /// Takes the steps of an element.
    pub(super) fn charge_element(&self) {
        self.charge(1 + self.weights.element);
    }

    /// Takes the steps of a member and its name.
    pub(super) fn charge_member(&self, name: &str) {
        let of_name = (name.len() as u64).saturating_mul(self.weights.name_byte);
        self.charge((1 + self.weights.element + name.len() as u64 / 16).saturating_add(of_name));
    }

    /// Takes the steps of an error where paths have `path_bytes`.
    pub(super) fn charge_error(&self, path_bytes: usize) {
        let of_copies = self.weights.error.saturating_add(path_bytes as u64 / 16);
        self.charge(of_copies.saturating_add(ERROR_STEPS));
    }

    /// Bytes of the paths to what is `step_bytes` below a place with `path_bytes`.
    pub(super) fn path_below(&self, path_bytes: usize, step_bytes: usize) -> usize {
        let own = step_bytes.saturating_add(self.weights.path_bytes);
        path_bytes.saturating_add(own)
    }

    /// Those that are left.
    #[cfg(test)]
    pub(super) fn left(&self) -> u64 {
        self.left.get()
    }
}

/// About how far the stack goes.
fn stack_position() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_many_steps_is_ended() {
        let take = |steps: u64| Meter::run(10, Weights::default(), |meter| meter.charge(steps));
        assert_eq!(take(10), Ok(()));
        assert_eq!(take(11), Err(Spent));
    }

    #[test]
    fn what_goes_too_deep_is_ended() {
        fn descend(meter: &Meter, left: u64) -> u64 {
            meter.charge(0);
            let frame = std::hint::black_box([left; 128]);
            match left {
                0 => 0,
                left => descend(meter, left - 1) + std::hint::black_box(&frame)[0].min(1),
            }
        }
        let go = |depth| Meter::run(1, Weights::default(), |meter| descend(meter, depth));
        assert_eq!(go(100), Ok(100));
        assert_eq!(go(1_000_000), Err(Spent));
    }

    #[test]
    fn another_panic_goes_on() {
        let run = || Meter::run(1, Weights::default(), |_| resume_unwind(Box::new("other")));
        let reason = catch_unwind(run).unwrap_err();
        assert_eq!(reason.downcast_ref(), Some(&"other"));
    }
}
