//! Listing a directory: filling one reply, with as many questions as that takes.
//!
//! The place in a listing is the entry's cookie and nothing else, so that `seekdir` to any place that was ever told is
//! right, whatever was created or removed since. `.` and `..` are not stored: they are 1 and 2 here.

use super::answer::{Refuse, unexpected};
use super::convert::{GENERATION, KEPT, file_attr, file_type};
use super::{Caller, Who};
use baton_core::limits::LISTING_MAX;
use baton_core::meta::ops::ReadDir;
use baton_core::meta::{Answer, DirEntry, Query};
use baton_core::mount::{Call, Done};
use baton_core::types::{Attr, Cookie, Errno, Ino, Kind, Stamp, Version};
use fuser::{INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// What `..` is shown as: finding out costs a call of its own and no program looks ("unknown" in libfuse as well).
const UNKNOWN: Ino = Ino(0xffff_ffff);

/// A reply that takes entries until it is full.
pub(super) trait Page: Refuse {
    /// Whether it shows attributes.
    const ATTRS: bool;
    /// How many entries fit, roughly: 32 KiB is what the C library reads at once.
    const ROOM: u32;
    /// Whether it was full and did not take the entry.
    fn is_full_for(&mut self, entry: &DirEntry) -> Result<bool, Errno>;
    fn send(self);
}

impl Page for ReplyDirectory {
    const ATTRS: bool = false;
    const ROOM: u32 = LISTING_MAX as u32;

    fn is_full_for(&mut self, entry: &DirEntry) -> Result<bool, Errno> {
        let name = OsStr::from_bytes(entry.name.as_bytes());
        Ok(self.add(INodeNo(entry.ino.0), entry.cookie.0, file_type(entry.kind), name))
    }

    fn send(self) {
        self.ok();
    }
}

impl Page for ReplyDirectoryPlus {
    const ATTRS: bool = true;
    const ROOM: u32 = 192;

    fn is_full_for(&mut self, entry: &DirEntry) -> Result<bool, Errno> {
        let attr = entry.attr.as_ref().ok_or(Errno::EIO)?;
        let name = OsStr::from_bytes(entry.name.as_bytes());
        let ino = INodeNo(entry.ino.0);
        Ok(self.add(ino, entry.cookie.0, name, &KEPT, &file_attr(attr), GENERATION))
    }

    fn send(self) {
        self.ok();
    }
}

/// `.` and `..`, which are no names that a directory can have.
trait Dots {
    fn add_dots(&mut self, dir: Ino, after: u64);
}

const DOTS: [(u64, &str); 2] = [(1, "."), (2, "..")];

fn dots(dir: Ino, after: u64) -> impl Iterator<Item = (u64, &'static str, Ino)> {
    let parent = if dir == Ino::ROOT { dir } else { UNKNOWN };
    let inos = [dir, parent];
    DOTS.into_iter().zip(inos).filter(move |((cookie, _), _)| *cookie > after).map(|((c, name), ino)| (c, name, ino))
}

impl Dots for ReplyDirectory {
    fn add_dots(&mut self, dir: Ino, after: u64) {
        for (cookie, name, ino) in dots(dir, after) {
            let _has_room = self.add(INodeNo(ino.0), cookie, file_type(Kind::Directory), name);
        }
    }
}

impl Dots for ReplyDirectoryPlus {
    fn add_dots(&mut self, dir: Ino, after: u64) {
        for (cookie, name, ino) in dots(dir, after) {
            self.add(INodeNo(ino.0), cookie, name, &KEPT, &file_attr(&some_directory(ino)), GENERATION);
        }
    }
}

/// The kernel takes only the number and the kind from what it is told with `.` and `..`.
fn some_directory(ino: Ino) -> Attr {
    let never = Stamp::default();
    Attr {
        ino,
        kind: Kind::Directory,
        mode: 0,
        nlink: 2,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        allocated: 0,
        atime: never,
        mtime: never,
        ctime: never,
        btime: never,
        version: Version(0),
        content: Version(0),
    }
}

/// One reply that is being filled.
struct Filling<C, P> {
    caller: Arc<C>,
    who: Who,
    dir: Ino,
    after: Cookie,
    page: P,
    /// Whether the page has an entry (other than the dots) already.
    some: bool,
}

/// Fills a page with what comes after `offset` and sends it.
#[expect(private_bounds)]
pub(super) fn fill<C: Caller, P: Page + Dots>(caller: Arc<C>, who: Who, dir: Ino, offset: u64, mut page: P) {
    page.add_dots(dir, offset);
    let after = if offset < Cookie::FIRST.0 { Cookie(0) } else { Cookie(offset) };
    Filling { caller, who, dir, after, page, some: false }.ask();
}

impl<C: Caller, P: Page> Filling<C, P> {
    fn ask(self) {
        let query = Query::ReadDir(ReadDir { ino: self.dir, after: self.after, max: P::ROOM, attrs: P::ATTRS });
        let (caller, who) = (self.caller.clone(), self.who);
        caller.call(who, Call::Ask(query), Box::new(move |result, _kept| self.take(result)));
    }

    fn take(mut self, result: Result<Done, Errno>) {
        match result {
            Ok(Done::Answer(Answer::Listing { entries, end })) => {
                let end = end || entries.is_empty();
                for entry in &entries {
                    match self.page.is_full_for(entry) {
                        Ok(true) => return self.page.send(),
                        Ok(false) => self.after = entry.cookie,
                        Err(errno) => return self.page.refuse(errno),
                    }
                    self.some = true;
                }
                if end { self.page.send() } else { self.ask() }
            }
            Ok(other) => unexpected(self.page, &other),
            // What was found is good; the next request meets the error again.
            Err(_) if self.some => self.page.send(),
            Err(errno) => self.page.refuse(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dots_come_first_and_once() {
        let names = |after| dots(Ino(7), after).map(|(_, name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(0), [".", ".."]);
        assert_eq!(names(1), [".."]);
        assert_eq!(names(2), [] as [&str; 0]);
        assert_eq!(dots(Ino::ROOT, 1).next(), Some((2, "..", Ino::ROOT)));
    }
}
