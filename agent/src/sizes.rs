//! Sizes that both ends of a link go by.

/// Window of one HTTP/2 stream, in bytes: the product of 1 GB/s and 8 ms.
pub const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// Window of one link, in bytes: eight streams whose readers stand still leave the rest running.
pub const LINK_WINDOW_BYTES: u32 = 64 << 20;
/// Largest HTTP/2 frame, in bytes.
pub const FRAME_BYTES_MAX: u32 = 256 << 10;
/// Largest gRPC message, in bytes: a chunk and what belongs to it.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
