//! The wire, from the outside: what arrives is what was sent, or it is refused.

mod common;
mod garbage;
mod refusals;
mod round_trip;
