//! Every bound of the system, by name, with how it was chosen. Full means wait or a typed error, never growth.

/// The longest name of a directory entry, in bytes: what Linux and every common file system allow.
pub const NAME_MAX: usize = 255;
/// The longest target of a symbolic link: PATH_MAX without its terminating zero.
pub const SYMLINK_MAX: usize = 4095;
/// The largest file: offsets are signed 64-bit in POSIX.
pub const FILE_SIZE_MAX: u64 = i64::MAX as u64;
/// Hard links to one file; ext4's 65,000 is what programs have met before.
pub const LINK_MAX: u32 = 65_000;
/// One extended attribute's value: Linux's own limit (XATTR_SIZE_MAX).
pub const XATTR_VALUE_MAX: usize = 65_536;
/// The names of all extended attributes of one object, each with its zero byte: Linux's own limit (XATTR_LIST_MAX).
pub const XATTR_LIST_MAX: usize = 65_536;
/// Data up to this size travels inside the command and needs no second trip. Above it, writing each byte three times to the
/// log and three times to the state costs more than a slice's extra round trip.
pub const INLINE_WRITE_MAX: usize = 64 * 1024;
/// Inline data is kept in pieces that never cross a multiple of this: an append rewrites at most one piece, a random 4 KiB
/// write exactly one.
pub const INLINE_PIECE: u64 = 4096;
/// The largest slice. One slice is one record in a segment file and one message on the wire.
pub const SLICE_MAX: usize = 4 * 1024 * 1024;
/// Copies kept of a slice where there are enough nodes.
pub const REPLICAS: usize = 3;
/// The most one read may ask for: the kernel's largest request is 1 MiB here; the API may ask for a whole slice.
pub const READ_MAX: u32 = SLICE_MAX as u32;
/// Pieces answered in one layout. Who reads and meets more asks again for the rest, and for all if the bytes changed meanwhile.
pub const LAYOUT_EXTENTS_MAX: usize = 2048;
/// Entries in one answer to a directory listing.
pub const LISTING_MAX: usize = 1024;
/// Groups a caller may be in: Linux's NGROUPS_MAX.
pub const GROUPS_MAX: usize = 65_536;
/// Commands of one mount that may be unanswered at once, and the bytes they may carry together. A mount's FUSE queue is far
/// shorter; an API client waits. The bytes are what a line of 1 Gbit/s carries in 34 ms: more would only wait elsewhere.
pub const SESSION_WINDOW: usize = 1024;
pub const SESSION_WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// Commands in one Raft entry, and the bytes they may carry together.
pub const BATCH_COMMANDS_MAX: usize = 1024;
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// What a session may put into the log before it is another's turn: one inline write of the largest size.
pub const TURN_BYTES: usize = INLINE_WRITE_MAX;
/// Commands that a leader proposes ahead of what is committed, and their bytes. Whoever comes then waits for these, whose turn it
/// may be; over a way of 100 ms there and back it is 40 MB, or 40,000 commands, a second.
pub const AHEAD_COMMANDS_MAX: usize = 4096;
pub const AHEAD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A session nobody heard of for this long is expired and fenced (milliseconds).
pub const SESSION_LEASE_MS: u64 = 10_000;
/// How often a mount says that it lives: three chances within a lease, and a margin.
pub const KEEPALIVE_MS: u64 = 2_000;
/// Bytes copied by one copy_file_range command where no whole slice can be shared.
pub const COPY_MAX: u64 = 16 * 1024 * 1024;
/// A node refuses commands that grow the file system when a disk has less than this left, so that the log, the state and
/// deletions always have room.
pub const DISK_RESERVE: u64 = 256 * 1024 * 1024;
