//! What comes through a synchronisation, both ways: through the real binary.

mod changes;
mod content;
mod delta;
mod large;
mod two_way;
