//! What the host keeps of operations: which there were, how they ended, what they wrote.
//!
//! The session writes it, so that `skync ps -a`, `logs`, `attach`, `wait` and `status` can answer
//! when the session and its sandbox are long gone. Nothing here decides what an operation does;
//! whether one still runs only its session knows.

mod id;
pub mod output;
pub mod record;
pub mod store;

pub use id::OperationId;
pub use record::{ExitRecord, Record, RecordState};
pub use store::{FindError, Store};
