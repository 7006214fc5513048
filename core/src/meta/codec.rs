//! How keys and values look on disk.
