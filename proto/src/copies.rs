//! Copies: [`Object`], [`Fact`]. Keys and values travel as they lie on disk.

use crate::bad::{BadMessage, Why};
use crate::field::{Field, Message, at_most, need};
use crate::v1::{self, fact, object};
use baton_core::meta::{Fact, Key, Record, Value, decode_key, decode_value, encode_key, encode_value};
use baton_core::types::Object;
use bytes::Bytes;

/// Objects in one message.
const OBJECTS_MAX: usize = 16_384;

impl From<Object> for v1::Object {
    fn from(object: Object) -> Self {
        use object::Is;
        let is = match object {
            Object::Whole(ino) => Is::Whole(ino.into_wire()),
            Object::Rights(ino) => Is::Rights(ino.into_wire()),
            Object::Entry(dir, name) => Is::Entry(v1::DirName { dir: dir.into_wire(), name: name.into_wire() }),
        };
        Self { is: Some(is) }
    }
}

impl TryFrom<v1::Object> for Object {
    type Error = BadMessage;
    fn try_from(object: v1::Object) -> Result<Object, BadMessage> {
        use object::Is;
        Ok(match object.is.ok_or(Why::Missing.at("object"))? {
            Is::Whole(ino) => Object::Whole(need(ino, "whole")?),
            Is::Rights(ino) => Object::Rights(need(ino, "rights")?),
            Is::Entry(entry) => Object::Entry(need(entry.dir, "entry.dir")?, need(entry.name, "entry.name")?),
        })
    }
}

impl Message for Object {
    type Wire = v1::Object;
}

pub(crate) fn wire_objects(objects: Vec<Object>) -> v1::Objects {
    v1::Objects { objects: objects.into_wire() }
}

pub(crate) fn read_objects(objects: v1::Objects) -> Result<Vec<Object>, BadMessage> {
    at_most(objects.objects.len(), OBJECTS_MAX, "objects")?;
    need(objects.objects, "objects")
}

/// Sessions and the like are nobody's business, and would not encode for ever either.
fn value_out(value: &Value) -> Bytes {
    encode_value(value).map(Bytes::from).unwrap_or_default()
}

fn key_in(bytes: &[u8]) -> Result<Key, BadMessage> {
    decode_key(bytes).map_err(|_| Why::Undecodable.at("key"))
}

fn value_in(bytes: &[u8]) -> Result<Value, BadMessage> {
    decode_value(bytes).map_err(|_| Why::Undecodable.at("value"))
}

impl From<Fact> for v1::Fact {
    fn from(fact: Fact) -> Self {
        let record = match fact.record {
            Record::Value(key, value) => {
                fact::Record::Value(fact::Value { key: encode_key(&key).into(), value: value.as_ref().map(value_out) })
            }
            Record::Range { from, to, max, found } => {
                let pair =
                    |(key, value): (Key, Value)| fact::Pair { key: encode_key(&key).into(), value: value_out(&value) };
                let found = found.into_iter().map(pair).collect();
                fact::Record::Range(fact::Range {
                    from: encode_key(&from).into(),
                    to: encode_key(&to).into(),
                    max,
                    found,
                })
            }
        };
        Self { object: fact.object.into_wire(), record: Some(record) }
    }
}

impl TryFrom<v1::Fact> for Fact {
    type Error = BadMessage;
    fn try_from(fact: v1::Fact) -> Result<Fact, BadMessage> {
        let record = match fact.record.ok_or(Why::Missing.at("record"))? {
            fact::Record::Value(of) => {
                let value = of.value.map(|bytes| value_in(&bytes)).transpose()?;
                Record::Value(key_in(&of.key)?, value)
            }
            fact::Record::Range(range) => {
                let pair = |pair: fact::Pair| Ok((key_in(&pair.key)?, value_in(&pair.value)?));
                let found = range.found.into_iter().map(pair).collect::<Result<_, BadMessage>>()?;
                Record::Range { from: key_in(&range.from)?, to: key_in(&range.to)?, max: range.max, found }
            }
        };
        Ok(Fact { object: need(fact.object, "object")?, record })
    }
}

impl Message for Fact {
    type Wire = v1::Fact;
}
