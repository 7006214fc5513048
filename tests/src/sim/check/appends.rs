//! The file that is only appended to: every acknowledged record is there once and whole, where the reply said; records of
//! unknown outcome at most once; those of one client in their order; and nothing else.

use super::super::data::whole;
use super::super::history::{Act, History, Saw};
use std::collections::BTreeMap;

pub(super) fn check(history: &History) -> Result<(), String> {
    let Some(log) = history.log else { return Ok(()) };
    let read = history.records.iter().rev().find_map(|r| match (&r.act, &r.saw) {
        (Act::Read { ino, offset: 0, len }, Saw::Bytes(bytes)) if *ino == log && *len >= 4 << 20 => Some(bytes),
        _ => None,
    });
    let Some(content) = read else { return Err("the log was not read in the end".into()) };
    let mut pending: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for (at, record) in history.records.iter().enumerate() {
        match (&record.act, &record.saw) {
            (Act::Write { ino, at: None, .. }, Saw::Failed(_)) if *ino == log => {}
            (Act::Write { ino, at: None, len, id }, _) if *ino == log => {
                pending.insert(whole(*id, *len).to_vec(), at);
            }
            _ => {}
        }
    }
    let mut last_of: BTreeMap<u64, usize> = BTreeMap::new();
    let mut at = 0;
    while at < content.len() {
        let found = (20..120).filter_map(|len| content.get(at..at + len)).find_map(|part| pending.remove_entry(part));
        let Some((part, index)) = found else {
            return Err(format!("the log has something at {at} that nobody appended there, or a second time"));
        };
        let record = &history.records[index];
        if let Saw::Written { offset, .. } = record.saw
            && offset != at as u64
        {
            return Err(format!("an append was said to be at {offset} and is at {at}"));
        }
        if last_of.insert(record.client, index).is_some_and(|before| before > index) {
            return Err(format!("two appends of client {} are in the wrong order at {at}", record.client));
        }
        at += part.len();
    }
    match pending.values().find(|index| !history.records[**index].is_open()) {
        Some(index) => Err(format!("an acknowledged append is not in the log: {:?}", history.records[*index])),
        None => Ok(()),
    }
}
