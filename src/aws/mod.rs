//! What every call of AWS has in common, whichever service it goes to.

pub mod error;
