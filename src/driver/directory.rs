//! x
use crate::config::DirectoryConfig;
pub struct Directory;
