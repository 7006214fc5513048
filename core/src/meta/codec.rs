//! # How keys and values look on disk
//!
//! A key is one byte for its kind and then its fields, numbers with the highest byte first and names raw at the end: so the
//! order of the bytes is the order of the keys. A value is one byte for the format and then postcard.

use super::{Key, Value};
use crate::types::{BadName, Cookie, Ino, Name, SessionId, SliceId, XattrName};

/// The format that is written. An older one that must stay readable gets an arm of its own in [`decode_value`]; what an earlier
/// build would not understand, a kind of value more included, is a newer one.
const FORMAT: u8 = 1;

/// Why some bytes are no key or no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("a key of unknown kind {0}")]
    UnknownKey(u8),
    #[error("a key that is cut off or too long")]
    KeyLength,
    #[error("a key with a bad name: {0}")]
    Name(#[from] BadName),
    #[error("a value in format {0}, which this version does not know")]
    UnknownFormat(u8),
    #[error("an empty value")]
    Empty,
    #[error("a value that does not decode: {0}")]
    Value(postcard::Error),
    #[error("a value with {0} bytes too many")]
    Trailing(usize),
}

impl CodecError {
    /// Whether it is what a later build writes, where a checksum says that nothing changed it since.
    pub fn is_later(&self) -> bool {
        match self {
            CodecError::UnknownKey(_) => true,
            CodecError::UnknownFormat(format) => *format > FORMAT,
            _ => false,
        }
    }
}

pub fn encode_key(key: &Key) -> Vec<u8> {
    match key {
        Key::Volume => vec![0],
        Key::Inode(ino) => numbers(1, &[ino.0], &[]),
        Key::Entry(dir, name) => numbers(2, &[dir.0], name.as_bytes()),
        Key::Listing(dir, cookie) => numbers(3, &[dir.0, cookie.0], &[]),
        Key::Extent(ino, end) => numbers(4, &[ino.0, *end], &[]),
        Key::Xattr(ino, name) => numbers(5, &[ino.0], name.as_bytes()),
        Key::Orphan(ino) => numbers(6, &[ino.0], &[]),
        Key::Slice(id) => numbers(7, &[id.session.0, id.number], &[]),
        Key::Session(id) => numbers(8, &[id.0], &[]),
        Key::Locks(ino) => numbers(9, &[ino.0], &[]),
        Key::LockUse(id, ino) => numbers(10, &[id.0, ino.0], &[]),
        Key::Members => vec![11],
        Key::Version => vec![12],
    }
}

fn numbers(tag: u8, numbers: &[u64], rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + 8 * numbers.len() + rest.len());
    bytes.push(tag);
    for number in numbers {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(rest);
    bytes
}

pub fn decode_key(bytes: &[u8]) -> Result<Key, CodecError> {
    let (&tag, mut rest) = bytes.split_first().ok_or(CodecError::KeyLength)?;
    let key = match tag {
        0 => Key::Volume,
        1 => Key::Inode(Ino(number(&mut rest)?)),
        2 => Key::Entry(Ino(number(&mut rest)?), Name::new(std::mem::take(&mut rest))?),
        3 => Key::Listing(Ino(number(&mut rest)?), Cookie(number(&mut rest)?)),
        4 => Key::Extent(Ino(number(&mut rest)?), number(&mut rest)?),
        5 => Key::Xattr(Ino(number(&mut rest)?), XattrName::new(std::mem::take(&mut rest))?),
        6 => Key::Orphan(Ino(number(&mut rest)?)),
        7 => Key::Slice(SliceId { session: SessionId(number(&mut rest)?), number: number(&mut rest)? }),
        8 => Key::Session(SessionId(number(&mut rest)?)),
        9 => Key::Locks(Ino(number(&mut rest)?)),
        10 => Key::LockUse(SessionId(number(&mut rest)?), Ino(number(&mut rest)?)),
        11 => Key::Members,
        12 => Key::Version,
        unknown => return Err(CodecError::UnknownKey(unknown)),
    };
    if rest.is_empty() { Ok(key) } else { Err(CodecError::KeyLength) }
}

fn number(rest: &mut &[u8]) -> Result<u64, CodecError> {
    let (number, after) = rest.split_first_chunk().ok_or(CodecError::KeyLength)?;
    *rest = after;
    Ok(u64::from_be_bytes(*number))
}

pub fn encode_value(value: &Value) -> Result<Vec<u8>, CodecError> {
    postcard::to_extend(value, vec![FORMAT]).map_err(CodecError::Value)
}

pub fn decode_value(bytes: &[u8]) -> Result<Value, CodecError> {
    let (&format, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    if format != FORMAT {
        return Err(CodecError::UnknownFormat(format));
    }
    let (value, rest) = postcard::take_from_bytes(body).map_err(CodecError::Value)?;
    if rest.is_empty() { Ok(value) } else { Err(CodecError::Trailing(rest.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::{Content, Extent, format};
    use crate::types::{Members, NodeId, Owner, Stamp};
    use bytes::Bytes;
    use proptest::prelude::*;

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0..300u64, any::<u64>()]
    }

    fn name() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![1..=3u8, 250..=255u8], 1..6)
    }

    fn key() -> impl Strategy<Value = Key> {
        (0..13u8, number(), number(), name()).prop_map(|(kind, a, b, name)| match kind {
            0 => Key::Volume,
            1 => Key::Inode(Ino(a)),
            2 => Key::Entry(Ino(a), Name::new(&name).unwrap()),
            3 => Key::Listing(Ino(a), Cookie(b)),
            4 => Key::Extent(Ino(a), b),
            5 => Key::Xattr(Ino(a), XattrName::new(&[b"user.", &name[..]].concat()).unwrap()),
            6 => Key::Orphan(Ino(a)),
            7 => Key::Slice(SliceId { session: SessionId(a), number: b }),
            8 => Key::Session(SessionId(a)),
            9 => Key::Locks(Ino(a)),
            10 => Key::LockUse(SessionId(a), Ino(b)),
            11 => Key::Members,
            _ => Key::Version,
        })
    }

    proptest! {
        #[test]
        fn keys_come_back_and_keep_their_order(a in key(), b in key()) {
            let (x, y) = (encode_key(&a), encode_key(&b));
            prop_assert_eq!(decode_key(&x), Ok(a.clone()));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(key) = decode_key(&bytes) {
                prop_assert_eq!(encode_key(&key), bytes.clone());
            }
            let _ = decode_value(&bytes);
            let _ = decode_value(&[&[FORMAT], &bytes[..]].concat());
        }
    }

    #[test]
    fn values_come_back() {
        let mut values: Vec<Value> =
            format(Stamp::new(-5, 7), Owner::ROOT).into_iter().filter_map(|(_, value)| value).collect();
        values.push(Value::Orphan);
        values.push(Value::Members(Members::founding([(NodeId(1), "host:1".to_owned())])));
        values.push(Value::Version(10));
        values.push(Value::Extent(Extent { start: 9, content: Content::Inline(Bytes::from_static(b"abc")) }));
        values.push(Value::Listing(Name::new(b"x").unwrap()));
        for value in values {
            let bytes = encode_value(&value).unwrap();
            assert_eq!(decode_value(&bytes), Ok(value));
            assert!(decode_value(&bytes[..bytes.len() - 1]).is_err());
            assert_eq!(decode_value(&[&bytes[..], &[0]].concat()), Err(CodecError::Trailing(1)));
        }
        assert_eq!(decode_value(&[]), Err(CodecError::Empty));
        assert_eq!(decode_value(&[9, 9]), Err(CodecError::UnknownFormat(9)));
    }

    #[test]
    fn what_a_later_build_writes_is_told_from_damage() {
        let later = |bytes: &[u8]| decode_value(bytes).unwrap_err().is_later();
        assert!(later(&[FORMAT + 1, 0]) && decode_key(&[250]).unwrap_err().is_later());
        assert!(!later(&[0, 0]) && !later(&[]) && !later(&[FORMAT]) && !decode_key(&[1]).unwrap_err().is_later());
    }
}
