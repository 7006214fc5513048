//! How keys and values look on disk: bytes that sort as the keys do, and postcard. Stands in for `baton_core::meta`'s codec.

use baton_core::meta::{Key, Value};
use baton_core::types::{Cookie, Ino, Name, SessionId, SliceId, XattrName};

pub(super) fn encode_key(key: &Key) -> Vec<u8> {
    let (kind, words, name): (u8, Vec<u64>, &[u8]) = match key {
        Key::Volume => (0, vec![], b""),
        Key::Inode(ino) => (1, vec![ino.0], b""),
        Key::Entry(ino, name) => (2, vec![ino.0], name.as_bytes()),
        Key::Listing(ino, cookie) => (3, vec![ino.0, cookie.0], b""),
        Key::Extent(ino, end) => (4, vec![ino.0, *end], b""),
        Key::Xattr(ino, name) => (5, vec![ino.0], name.as_bytes()),
        Key::Orphan(ino) => (6, vec![ino.0], b""),
        Key::Slice(id) => (7, vec![id.session.0, id.number], b""),
        Key::Session(id) => (8, vec![id.0], b""),
    };
    let mut bytes = vec![kind];
    words.iter().for_each(|word| bytes.extend(word.to_be_bytes()));
    bytes.extend(name);
    bytes
}

pub(super) fn decode_key(bytes: &[u8]) -> Result<Key, String> {
    let bad = || "not a key".to_owned();
    let word = |at: usize| -> Result<u64, String> {
        let bytes = bytes.get(1 + 8 * at..9 + 8 * at).ok_or_else(bad)?;
        Ok(u64::from_be_bytes(bytes.try_into().map_err(|_| bad())?))
    };
    let name = || bytes.get(9..).ok_or_else(bad);
    let key = match bytes.first().ok_or_else(bad)? {
        0 => Key::Volume,
        1 => Key::Inode(Ino(word(0)?)),
        2 => Key::Entry(Ino(word(0)?), Name::new(name()?).map_err(|error| error.to_string())?),
        3 => Key::Listing(Ino(word(0)?), Cookie(word(1)?)),
        4 => Key::Extent(Ino(word(0)?), word(1)?),
        5 => Key::Xattr(Ino(word(0)?), XattrName::new(name()?).map_err(|error| error.to_string())?),
        6 => Key::Orphan(Ino(word(0)?)),
        7 => Key::Slice(SliceId { session: SessionId(word(0)?), number: word(1)? }),
        8 => Key::Session(SessionId(word(0)?)),
        _ => return Err(bad()),
    };
    if encode_key(&key) == bytes { Ok(key) } else { Err(bad()) }
}

pub(super) fn encode_value(value: &Value) -> Vec<u8> {
    // Fails only where a type cannot be told to serde; every variant is encoded in the tests.
    postcard::to_stdvec(value).unwrap_or_default()
}

pub(super) fn decode_value(bytes: &[u8]) -> Result<Value, String> {
    postcard::from_bytes(bytes).map_err(|error| error.to_string())
}
