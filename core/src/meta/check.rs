//! # Whether a state is whole
//!
//! Walks a store once, in the order of its keys and in bounded chunks, and compares what every object says of itself with
//! what the others say of it. It keeps some hundred bytes an inode in memory. Repairs nothing.

use super::content::Span;
use super::{Content, Entry, Inode, Key, Run, SliceInfo, Store, Txn, Value, Volume, xattr};
use crate::limits::INLINE_PIECE;
use crate::types::{Cookie, Ino, Kind, Name, SessionId, SliceId, Stamp};
use std::collections::{BTreeMap, BTreeSet};

/// Pairs read at once.
const CHUNK: usize = 1024;

/// What a walk over a store found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub inodes: u64,
    pub entries: u64,
    pub extents: u64,
    pub slices: u64,
    pub problems: Vec<Problem>,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the volume's counters are missing")]
    NoVolume,
    #[error("the root directory is missing")]
    NoRoot,
    #[error("the value under {0:?} is of another kind than its key")]
    WrongKind(Key),
    #[error("the volume counts {counted} inodes, there are {found}")]
    Inodes { counted: u64, found: u64 },
    #[error("the volume counts {counted} bytes allocated, all inodes together {found}")]
    VolumeAllocated { counted: u64, found: u64 },
    #[error("inode {0} has a number that the volume did not give out yet")]
    FutureInode(Ino),
    #[error("inode {ino} counts {counted} links, there are {found}")]
    Links { ino: Ino, counted: u32, found: u32 },
    #[error("directory {dir} counts {counted} entries, there are {found}")]
    Entries { dir: Ino, counted: u64, found: u64 },
    #[error("inode {ino} counts {counted} bytes allocated, its extents cover {found}")]
    Allocated { ino: Ino, counted: u64, found: u64 },
    #[error("inode {ino} counts {counted} bytes of attribute names, there are {found}")]
    XattrNames { ino: Ino, counted: u32, found: u32 },
    #[error("symbolic link {0} has another length than its target")]
    TargetLength(Ino),
    #[error("entry {name} lies in {dir}, which is not a directory")]
    NotInDirectory { dir: Ino, name: Name },
    #[error("entry {name} of directory {dir} names inode {ino}, which does not exist or is of another kind")]
    Dangling { dir: Ino, name: Name, ino: Ino },
    #[error("entry {name} of directory {dir} is not at its place in the listing")]
    NotListed { dir: Ino, name: Name },
    #[error("place {cookie} in the listing of directory {dir} names {name}, which has no such place")]
    NotNamed { dir: Ino, cookie: Cookie, name: Name },
    #[error("directory {ino} is named in {named_in} and says that it hangs in {parent}")]
    Parent { ino: Ino, named_in: Ino, parent: Ino },
    #[error("directory {0} cannot be reached from the root")]
    Unreachable(Ino),
    #[error("inode {0} has no links and is not listed as an orphan")]
    Forgotten(Ino),
    #[error("{0} is listed as an orphan and is none")]
    NoOrphan(Ino),
    #[error("an extent or attribute belongs to {0}, which cannot have it")]
    Stray(Ino),
    #[error("file {ino}: the extent that ends at {end} is empty or of another length than its bytes")]
    ExtentLength { ino: Ino, end: u64 },
    #[error("file {ino}: the extent that ends at {end} overlaps the one before it")]
    Overlap { ino: Ino, end: u64 },
    #[error("file {ino}: the inline extent that ends at {end} crosses a piece")]
    PieceCrossed { ino: Ino, end: u64 },
    #[error("file {ino}: there is data up to {end}, beyond the file's length")]
    BeyondEnd { ino: Ino, end: u64 },
    #[error("slice {id} counts {counted} references, there are {found}")]
    Refs { id: SliceId, counted: u32, found: u32 },
    #[error("slice {id} has {len} bytes and is used up to {used}")]
    SliceShort { id: SliceId, len: u32, used: u64 },
    #[error("slice {0} is kept by no node")]
    Nowhere(SliceId),
    #[error("session {session} and the locks on {ino} do not know of each other")]
    LockUse { session: SessionId, ino: Ino },
}

/// Verifies the invariants that [`crate::meta`] names. Fails only where the store cannot answer.
pub fn check<S: Store + ?Sized>(store: &S) -> Run<Report> {
    let mut walk = Walk::new(store);
    let end = Key::LAST;
    let mut from = Key::Volume;
    loop {
        let chunk = walk.txn.range(&from, &end, CHUNK)?;
        let last = chunk.last().map(|(key, _)| key.clone());
        let full = chunk.len() == CHUNK;
        for (at, pair) in chunk.into_iter().enumerate() {
            // The last of a full chunk comes again, as the first of the next.
            if !(full && at + 1 == CHUNK) {
                walk.visit(pair)?;
            }
        }
        match last {
            Some(last) if full => from = last,
            _ => break,
        }
    }
    walk.finish();
    Ok(walk.report)
}

/// An inode, and what the rest of the store says of it.
struct Seen {
    inode: Inode,
    names: u32,
    entries: u64,
    subdirectories: u32,
    allocated: u64,
    xattr_names: u32,
    orphan: bool,
}

#[derive(Default)]
struct SliceUse {
    refs: u32,
    used: u64,
}

struct Walk<'s, S: Store + ?Sized> {
    txn: Txn<'s, S>,
    volume: Option<Volume>,
    inodes: BTreeMap<Ino, Seen>,
    slices: BTreeMap<SliceId, SliceUse>,
    /// The extent before this one.
    before: (Ino, u64),
    sessions: BTreeSet<SessionId>,
    /// Who uses which locks, as the locks say.
    lock_uses: BTreeSet<(SessionId, Ino)>,
    report: Report,
}

impl<'s, S: Store + ?Sized> Walk<'s, S> {
    fn new(store: &'s S) -> Self {
        Walk {
            txn: Txn::new(store, Stamp::default()),
            volume: None,
            inodes: BTreeMap::new(),
            slices: BTreeMap::new(),
            before: (Ino(0), 0),
            sessions: BTreeSet::new(),
            lock_uses: BTreeSet::new(),
            report: Report::default(),
        }
    }

    fn problem(&mut self, problem: Problem) {
        self.report.problems.push(problem);
    }

    fn expect(&mut self, holds: bool, problem: impl FnOnce() -> Problem) {
        if !holds {
            self.problem(problem());
        }
    }

    /// Inodes come before all that belongs to them, slices after all that names them: the order of the keys.
    fn visit(&mut self, pair: (Key, Value)) -> Run<()> {
        match pair {
            (Key::Volume, Value::Volume(volume)) => self.volume = Some(volume),
            (Key::Inode(ino), Value::Inode(inode)) => self.inode(ino, inode),
            (Key::Entry(dir, name), Value::Entry(entry)) => self.entry(dir, name, &entry)?,
            (Key::Listing(dir, cookie), Value::Listing(name)) => self.listing(dir, cookie, name)?,
            (Key::Extent(ino, end), Value::Extent(extent)) => {
                self.extent(ino, Span { start: extent.start, end, content: extent.content });
            }
            (Key::Xattr(ino, name), Value::Xattr(_)) => match self.inodes.get_mut(&ino) {
                Some(seen) => seen.xattr_names += xattr::listed_len(&name),
                None => self.problem(Problem::Stray(ino)),
            },
            (Key::Orphan(ino), Value::Orphan) => match self.inodes.get_mut(&ino) {
                Some(seen) if seen.inode.nlink == 0 => seen.orphan = true,
                _ => self.problem(Problem::NoOrphan(ino)),
            },
            (Key::Slice(id), Value::Slice(info)) => self.slice(id, &info),
            (Key::Session(id), Value::Session(_)) => drop(self.sessions.insert(id)),
            (Key::Locks(ino), Value::Locks(locks)) => {
                self.expect(self.inodes.contains_key(&ino), || Problem::Stray(ino));
                self.lock_uses.extend(locks.sessions().into_iter().map(|session| (session, ino)));
            }
            (Key::LockUse(session, ino), Value::LockUse) => {
                let known = self.lock_uses.remove(&(session, ino)) && self.sessions.contains(&session);
                self.expect(known, || Problem::LockUse { session, ino });
            }
            // The object may be gone: who unlinked it need not have heard yet that its locks were broken.
            (Key::LockUse(session, ino), Value::LocksBroken) => {
                let alone = !self.lock_uses.contains(&(session, ino)) && self.sessions.contains(&session);
                self.expect(alone, || Problem::LockUse { session, ino });
            }
            (key, _) => self.problem(Problem::WrongKind(key)),
        }
        Ok(())
    }

    fn inode(&mut self, ino: Ino, inode: Inode) {
        self.report.inodes += 1;
        let given_out = self.volume.as_ref().is_none_or(|volume| ino < volume.next_ino);
        self.expect(given_out, || Problem::FutureInode(ino));
        let length_fits = inode.kind != Kind::Symlink || inode.size == inode.target.len() as u64;
        self.expect(length_fits, || Problem::TargetLength(ino));
        let seen = Seen { inode, names: 0, entries: 0, subdirectories: 0, allocated: 0, xattr_names: 0, orphan: false };
        self.inodes.insert(ino, seen);
    }

    fn entry(&mut self, dir: Ino, name: Name, entry: &Entry) -> Run<()> {
        self.report.entries += 1;
        let is_dir = entry.kind == Kind::Directory;
        match self.inodes.get_mut(&dir) {
            Some(seen) if seen.inode.kind == Kind::Directory => {
                seen.entries += 1;
                seen.subdirectories += u32::from(is_dir);
            }
            _ => self.problem(Problem::NotInDirectory { dir, name: name.clone() }),
        }
        let listed = self.txn.get(&Key::Listing(dir, entry.cookie))? == Some(Value::Listing(name.clone()));
        self.expect(listed, || Problem::NotListed { dir, name: name.clone() });
        match self.inodes.get_mut(&entry.ino) {
            Some(seen) if seen.inode.kind == entry.kind => {
                seen.names += 1;
                let parent = seen.inode.parent;
                let hangs = !is_dir || parent == dir;
                self.expect(hangs, || Problem::Parent { ino: entry.ino, named_in: dir, parent });
            }
            _ => self.problem(Problem::Dangling { dir, name, ino: entry.ino }),
        }
        Ok(())
    }

    fn listing(&mut self, dir: Ino, cookie: Cookie, name: Name) -> Run<()> {
        let named = self.txn.entry(dir, &name)?.is_some_and(|entry| entry.cookie == cookie);
        let given_out = self.inodes.get(&dir).is_some_and(|seen| cookie < seen.inode.next_cookie);
        self.expect(named && given_out, || Problem::NotNamed { dir, cookie, name });
        Ok(())
    }

    fn extent(&mut self, ino: Ino, span: Span) {
        self.report.extents += 1;
        let end = span.end;
        if span.start >= end {
            return self.problem(Problem::ExtentLength { ino, end });
        }
        let (last, last_end) = std::mem::replace(&mut self.before, (ino, end));
        self.expect(last != ino || span.start >= last_end, || Problem::Overlap { ino, end });
        let size = match self.inodes.get_mut(&ino) {
            Some(seen) if seen.inode.kind == Kind::File => {
                seen.allocated += span.len();
                seen.inode.size
            }
            _ => return self.problem(Problem::Stray(ino)),
        };
        self.expect(span.content == Content::Zero || end <= size, || Problem::BeyondEnd { ino, end });
        let len = span.len();
        match span.content {
            Content::Zero => {}
            Content::Inline(bytes) => {
                self.expect(bytes.len() as u64 == len, || Problem::ExtentLength { ino, end });
                let one_piece = span.start / INLINE_PIECE == (end - 1) / INLINE_PIECE;
                self.expect(one_piece, || Problem::PieceCrossed { ino, end });
            }
            Content::Slice { id, at } => {
                let slice = self.slices.entry(id).or_default();
                slice.refs += 1;
                slice.used = slice.used.max(u64::from(at) + len);
            }
        }
    }

    fn slice(&mut self, id: SliceId, info: &SliceInfo) {
        self.report.slices += 1;
        let SliceUse { refs, used } = self.slices.remove(&id).unwrap_or_default();
        self.expect(refs == info.refs && refs > 0, || Problem::Refs { id, counted: info.refs, found: refs });
        self.expect(used <= u64::from(info.len), || Problem::SliceShort { id, len: info.len, used });
        self.expect(!info.nodes.is_empty(), || Problem::Nowhere(id));
    }

    fn finish(&mut self) {
        for (id, unknown) in std::mem::take(&mut self.slices) {
            self.problem(Problem::Refs { id, counted: 0, found: unknown.refs });
        }
        let inodes = std::mem::take(&mut self.inodes);
        self.expect(inodes.contains_key(&Ino::ROOT), || Problem::NoRoot);
        for (ino, seen) in &inodes {
            self.totals(*ino, seen);
        }
        self.reachable(&inodes);
        let Some(volume) = self.volume.take() else { return self.problem(Problem::NoVolume) };
        let found = inodes.len() as u64;
        self.expect(volume.inodes == found, || Problem::Inodes { counted: volume.inodes, found });
        let found = inodes.values().map(|seen| seen.inode.allocated).sum();
        let counted = volume.allocated;
        self.expect(counted == found, || Problem::VolumeAllocated { counted, found });
    }

    fn totals(&mut self, ino: Ino, seen: &Seen) {
        let inode = &seen.inode;
        let found = links(ino, seen);
        self.expect(inode.nlink == found, || Problem::Links { ino, counted: inode.nlink, found });
        self.expect(inode.nlink != 0 || seen.orphan, || Problem::Forgotten(ino));
        let (counted, found) = (inode.allocated, seen.allocated);
        self.expect(counted == found, || Problem::Allocated { ino, counted, found });
        let (counted, found) = (inode.xattr_names, seen.xattr_names);
        self.expect(counted == found, || Problem::XattrNames { ino, counted, found });
        if inode.kind == Kind::Directory {
            let (counted, found) = (inode.size, seen.entries);
            self.expect(counted == found, || Problem::Entries { dir: ino, counted, found });
        }
    }

    /// Every directory that has a name leads, from parent to parent, to the root.
    fn reachable(&mut self, inodes: &BTreeMap<Ino, Seen>) {
        let mut good = BTreeSet::from([Ino::ROOT]);
        let linked = |seen: &&Seen| seen.inode.kind == Kind::Directory && seen.names > 0;
        for (ino, _) in inodes.iter().filter(|(_, seen)| linked(seen)) {
            let mut path = BTreeSet::new();
            let mut at = *ino;
            while !good.contains(&at) && path.insert(at) {
                at = inodes.get(&at).filter(linked).map_or(at, |seen| seen.inode.parent);
            }
            if good.contains(&at) {
                good.extend(path);
            } else {
                self.problem(Problem::Unreachable(*ino));
            }
        }
    }
}

/// The links that an inode should count.
fn links(ino: Ino, seen: &Seen) -> u32 {
    match (seen.inode.kind, seen.names) {
        (Kind::Directory, 0) if ino != Ino::ROOT => 0,
        (Kind::Directory, names) => 1 + seen.subdirectories + if ino == Ino::ROOT { 1 } else { names },
        (_, names) => names,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::Memory;
    use crate::meta::testing::{World, name};
    use crate::types::Cred;

    fn world() -> (World, Ino) {
        let mut world = World::new();
        let dir = world.dir_of(&Cred::ROOT, Ino::ROOT, "d", 0o755);
        world.dir_of(&Cred::ROOT, dir, "below", 0o755);
        let file = world.file("f");
        world.write(file, 0, b"hello");
        world.check();
        (world, file)
    }

    fn damaged(damage: impl FnOnce(&mut Memory, Ino)) -> Vec<Problem> {
        let (mut world, file) = world();
        damage(&mut world.store, file);
        check(&world.store).unwrap().problems
    }

    fn inode(store: &mut Memory, ino: Ino) -> &mut Inode {
        match store.0.get_mut(&Key::Inode(ino)) {
            Some(Value::Inode(inode)) => inode,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_wrong_count_is_found() {
        let found = damaged(|store, file| inode(store, file).nlink = 2);
        assert!(matches!(found[..], [Problem::Links { counted: 2, found: 1, .. }]), "{found:?}");
        let found = damaged(|store, _| inode(store, Ino::ROOT).size = 7);
        assert!(matches!(found[..], [Problem::Entries { counted: 7, found: 2, .. }]), "{found:?}");
        let found = damaged(|store, file| inode(store, file).allocated = 9);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_lost_key_is_found() {
        let found = damaged(|store, file| drop(store.0.remove(&Key::Inode(file))));
        assert!(found.iter().any(|p| matches!(p, Problem::Dangling { .. })), "{found:?}");
        let found = damaged(|store, _| drop(store.0.remove(&Key::Entry(Ino::ROOT, name("f")))));
        assert!(found.iter().any(|p| matches!(p, Problem::NotNamed { .. })), "{found:?}");
        assert!(damaged(|store, _| drop(store.0.remove(&Key::Volume))).contains(&Problem::NoVolume));
    }

    #[test]
    fn a_circle_of_directories_is_found() {
        let mut world = World::new();
        let a = world.dir_of(&Cred::ROOT, Ino::ROOT, "a", 0o755);
        let b = world.dir_of(&Cred::ROOT, a, "b", 0o755);
        let Some(entry) = world.store.0.remove(&Key::Entry(Ino::ROOT, name("a"))) else { panic!() };
        world.store.0.insert(Key::Entry(b, name("a")), entry);
        inode(&mut world.store, a).parent = b;
        let found = check(&world.store).unwrap().problems;
        assert!(found.contains(&Problem::Unreachable(a)) && found.contains(&Problem::Unreachable(b)), "{found:?}");
    }

    #[test]
    fn overlapping_extents_are_found() {
        let found = damaged(|store, file| {
            let zero = crate::meta::Extent { start: 2, content: Content::Zero };
            store.0.insert(Key::Extent(file, 9), Value::Extent(zero));
        });
        assert!(found.contains(&Problem::Overlap { ino: Ino(4), end: 9 }), "{found:?}");
    }
}
