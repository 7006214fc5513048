//! # A node's data folder
//!
//! Its identity stands in `baton.toml`; whoever opens the folder holds an exclusive lock on `lock` for as long as it lives.
//! The identity is replaced as a whole (written beside, synced, renamed), so a crash leaves the old or the new one.

use super::sync_folder;
use baton_core::node::{Space, Unspoken, Written};
use baton_core::types::{ClusterId, Member, Members, NodeId};
use baton_proto::SPEAKS;
use rustix::fs::{FlockOperation, flock, statvfs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What this version writes and reads.
const FORMAT: u64 = 1;
const IDENTITY: &str = "baton.toml";
/// The list of the cluster's nodes as this one last knew it.
const MEMBERS: &str = "members.toml";
const LOCK: &str = "lock";
/// Stands in the folder when the node that stopped last found its state damaged.
const REBUILD: &str = "rebuild";
/// What may stand in a folder that has no identity yet: what a first start that was cut short left, and what `mkfs` puts at
/// the top of a disk of its own.
const HARMLESS: [&str; 3] = [LOCK, "baton.toml.new", "lost+found"];

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("cannot {what} {path}: {source}. Check the path, its permissions and the disk")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "cannot use {path} as the data folder: it is not a directory. Name a directory, or a path that does not exist yet"
    )]
    NotADirectory { path: PathBuf },
    #[error(
        "cannot use {path} as the data folder: it holds {found} and was not made by baton. Name an empty directory, or a path \
         that does not exist yet"
    )]
    NotBatons { path: PathBuf, found: String },
    #[error("cannot use {path}: another process holds its lock, so another node runs on it. Stop that one first")]
    Locked { path: PathBuf },
    #[error(
        "cannot use {path} for node {asked}: it belongs to node {found}. Start node {found} on it, or name another folder"
    )]
    AnotherNode { path: PathBuf, asked: NodeId, found: NodeId },
    #[error(
        "cannot use {path} for a node that joins: it belongs to node {found}, which no cluster has taken in. Start node {found} on \
         it with --id, or name another folder"
    )]
    Taken { path: PathBuf, found: NodeId },
    #[error(
        "cannot use {path}: it belongs to cluster {found}, and this is cluster {asked}. Name another folder, or move this one \
         away if that cluster is gone"
    )]
    AnotherCluster { path: PathBuf, asked: String, found: String },
    #[error("cannot use {path}: it has format {found} and this version of baton knows {FORMAT}. Install a newer baton")]
    Newer { path: PathBuf, found: u64 },
    #[error("cannot use {path}: {why}")]
    Unspoken { path: PathBuf, why: Unspoken },
    #[error(
        "cannot read {path}: {why}. If the other nodes live, move the folder away and start with an empty one; the node \
         fetches everything from them"
    )]
    Damaged { path: PathBuf, why: String },
}

impl FolderError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
        let path = path.to_owned();
        move |source| FolderError::Io { what, path, source }
    }

    /// Whether what is there is not what was written.
    pub fn is_damage(&self) -> bool {
        matches!(self, FolderError::Damaged { .. })
    }

    /// Whether there was no room.
    pub fn is_full(&self) -> bool {
        matches!(self, FolderError::Io { source, .. } if super::error::no_room(source))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Identity {
    format: u64,
    node: u64,
    /// In hex: TOML's numbers end at 63 bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    /// Whether this node votes. A folder that lost its log or its state does not, until the others have filled it again.
    #[serde(default)]
    member: bool,
    /// The newest version by which anything in the folder was written: recorded before that is there, so that who does not
    /// speak it finds out before it opens anything.
    #[serde(default)]
    version: u32,
}

/// How [`Members`] stand in their file: a TOML table has words for keys.
#[derive(Serialize, Deserialize)]
struct Nodes {
    next: u64,
    nodes: BTreeMap<String, OneNode>,
}

#[derive(Serialize, Deserialize)]
struct OneNode {
    address: String,
    votes: bool,
    leaves: bool,
    #[serde(default)]
    away: bool,
}

impl From<&Members> for Nodes {
    fn from(members: &Members) -> Nodes {
        let node = |(id, member): (&NodeId, &Member)| {
            let Member { address, votes, leaves, away } = member.clone();
            (id.to_string(), OneNode { address, votes, leaves, away })
        };
        Nodes { next: members.next.0, nodes: members.nodes.iter().map(node).collect() }
    }
}

impl From<Nodes> for Members {
    fn from(nodes: Nodes) -> Members {
        let node = |(id, node): (String, OneNode)| {
            let OneNode { address, votes, leaves, away } = node;
            Some((NodeId(id.parse().ok()?), Member { address, votes, leaves, away }))
        };
        Members { next: NodeId(nodes.next), nodes: nodes.nodes.into_iter().filter_map(node).collect() }
    }
}

/// A node's folder, locked for as long as this lives.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    node: NodeId,
    cluster: Option<ClusterId>,
    member: bool,
    version: u32,
    _lock: File,
}

/// A folder that is nobody's yet and can be written to, locked: for a node that does not know its number yet.
#[derive(Debug)]
pub struct ClaimedFolder {
    path: PathBuf,
    lock: File,
}

impl ClaimedFolder {
    pub fn claim(path: &Path) -> Result<ClaimedFolder, FolderError> {
        create(path)?;
        refuse_strangers(path)?;
        let lock = lock(path)?;
        match read_identity(path)? {
            Some(found) => Err(FolderError::Taken { path: path.to_owned(), found: NodeId(found.node) }),
            None => Ok(ClaimedFolder { path: path.to_owned(), lock }),
        }
    }

    /// From here on it is this node's.
    pub fn of(self, node: NodeId) -> Result<DataFolder, FolderError> {
        let ClaimedFolder { path, lock } = self;
        let identity = Identity { format: FORMAT, node: node.0, cluster: None, member: false, version: 0 };
        write_identity(&path, &identity)?;
        Ok(DataFolder { path, node, cluster: None, member: false, version: 0, _lock: lock })
    }
}

impl DataFolder {
    /// Opens the folder of this node, or makes one.
    pub fn open(path: &Path, node: NodeId) -> Result<DataFolder, FolderError> {
        create(path)?;
        refuse_strangers(path)?;
        let lock = lock(path)?;
        let Some(found) = read_identity(path)? else {
            return ClaimedFolder { path: path.to_owned(), lock }.of(node);
        };
        let cluster = check(&found, path, node)?;
        let Identity { member, version, .. } = found;
        Ok(DataFolder { path: path.to_owned(), node, cluster, member, version, _lock: lock })
    }

    /// Whose folder this is, and the nodes of its cluster, where it is anybody's.
    pub fn whose(path: &Path) -> Result<Option<(NodeId, Members)>, FolderError> {
        let Some(found) = read_identity(path)? else { return Ok(None) };
        let members = read_members(path)?;
        Ok(members.map(|members| (NodeId(found.node), members)))
    }

    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The cluster this node is part of, once it is.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// From here on this folder belongs to that cluster. Durable when it returns.
    pub fn set_cluster(&mut self, id: ClusterId) -> Result<(), FolderError> {
        match self.cluster {
            Some(found) if found == id => Ok(()),
            Some(found) => {
                Err(FolderError::AnotherCluster { path: self.path.clone(), asked: hex(id), found: hex(found) })
            }
            None => self.write(Some(id), self.member),
        }
    }

    /// From here on this version may have written something in the folder. Durable when it returns.
    pub fn set_version(&mut self, version: u32) -> Result<(), FolderError> {
        if version <= self.version {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.version, version);
        self.write(self.cluster, self.member).inspect_err(|_| self.version = before)
    }

    /// Whether this node votes.
    pub fn is_member(&self) -> bool {
        self.member
    }

    /// From here on this node votes. Durable when it returns.
    pub fn set_member(&mut self) -> Result<(), FolderError> {
        self.write(self.cluster, true)
    }

    /// This node no longer votes, until it has caught up with the others. Durable when it returns.
    pub fn unset_member(&mut self) -> Result<(), FolderError> {
        self.write(self.cluster, false)
    }

    /// The cluster's nodes, as this one last knew them.
    pub fn members(&self) -> Result<Option<Members>, FolderError> {
        read_members(&self.path)
    }

    /// Durable when it returns.
    pub fn set_members(&self, members: &Members) -> Result<(), FolderError> {
        write(&self.path, MEMBERS, "The nodes of the cluster. Written by baton; do not edit.", &Nodes::from(members))
    }

    /// Leaves word for the next start that the state was found damaged.
    pub fn ask_for_rebuild(&self) -> Result<(), FolderError> {
        let path = self.path.join(REBUILD);
        File::create(&path).and_then(|file| file.sync_all()).map_err(FolderError::io("write", &path))
    }

    pub fn wants_rebuild(&self) -> bool {
        self.path.join(REBUILD).exists()
    }

    /// Moves the log and the state out of the way, for whoever wants to look at them: this node is one that lost its disk
    /// now, and no longer votes. The slices stay; each carries its own checksums. Answers where the rest went.
    pub fn set_aside(&mut self) -> Result<PathBuf, FolderError> {
        self.write(self.cluster, false)?;
        let free = |number: &u32| !self.path.join(format!("damaged-{number}")).exists();
        let number = (1..=u32::MAX).find(free).unwrap_or(u32::MAX);
        let aside = self.path.join(format!("damaged-{number}"));
        let move_away = || -> io::Result<()> {
            fs::create_dir(&aside)?;
            for path in [self.log(), self.state()] {
                if let (true, Some(name)) = (path.exists(), path.file_name()) {
                    fs::rename(&path, aside.join(name))?;
                }
            }
            match fs::remove_file(self.path.join(REBUILD)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => sync_folder(&self.path),
            }
        };
        move_away().map_err(FolderError::io("move the damaged files to", &aside))?;
        Ok(aside)
    }

    fn write(&mut self, cluster: Option<ClusterId>, member: bool) -> Result<(), FolderError> {
        let (node, version) = (self.node.0, self.version);
        write_identity(&self.path, &Identity { format: FORMAT, node, cluster: cluster.map(hex), member, version })?;
        self.cluster = cluster;
        self.member = member;
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub fn state(&self) -> PathBuf {
        self.path.join("state.redb")
    }

    pub fn slices(&self) -> PathBuf {
        self.path.join("slices")
    }

    /// Room on the disk that the folder lies on; what is kept for root does not count as free.
    pub fn space(&self) -> Result<Space, FolderError> {
        space_of(&self.path).map_err(FolderError::io("ask for the free space of", &self.path))
    }
}

pub(crate) fn space_of(path: &Path) -> io::Result<Space> {
    let found = statvfs(path)?;
    Ok(Space { total: found.f_blocks * found.f_frsize, free: found.f_bavail * found.f_frsize })
}

fn hex(id: ClusterId) -> String {
    format!("{:016x}", id.0)
}

fn create(path: &Path) -> Result<(), FolderError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(FolderError::NotADirectory { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path).map_err(FolderError::io("create the data folder", path))?;
            let above = path.parent().unwrap_or(Path::new("."));
            sync_folder(above).map_err(FolderError::io("sync", above))
        }
        Err(error) => Err(FolderError::io("look at the data folder", path)(error)),
    }
}

/// Before anything is written: a folder without an identity must be empty.
fn refuse_strangers(path: &Path) -> Result<(), FolderError> {
    let told = || FolderError::io("list the data folder", path);
    let mut strangers = Vec::new();
    for file in fs::read_dir(path).map_err(told())? {
        let name = file.map_err(told())?.file_name().to_string_lossy().into_owned();
        if name == IDENTITY {
            return Ok(());
        }
        if !HARMLESS.contains(&name.as_str()) {
            strangers.push(name);
        }
    }
    strangers.sort();
    match strangers.as_slice() {
        [] => Ok(()),
        [only] => Err(FolderError::NotBatons { path: path.to_owned(), found: format!("'{only}'") }),
        [first, rest @ ..] => {
            let found = format!("'{first}' and {} more", rest.len());
            Err(FolderError::NotBatons { path: path.to_owned(), found })
        }
    }
}

fn lock(path: &Path) -> Result<File, FolderError> {
    let name = path.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(FolderError::io("write to the data folder's lock", &name))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(FolderError::Locked { path: path.to_owned() }),
        Err(errno) => Err(FolderError::io("lock", &name)(errno.into())),
    }
}

fn read_identity(path: &Path) -> Result<Option<Identity>, FolderError> {
    let name = path.join(IDENTITY);
    let Some(text) = read(&name)? else { return Ok(None) };
    let damaged = |why: String| FolderError::Damaged { path: name.clone(), why };
    // The format first: a newer one may have other fields.
    let fields: toml::Table = toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
    match fields.get("format").and_then(toml::Value::as_integer).map(u64::try_from) {
        Some(Ok(FORMAT)) => {}
        Some(Ok(found)) if found > FORMAT => return Err(FolderError::Newer { path: path.to_owned(), found }),
        _ => return Err(damaged("it names no format".to_owned())),
    }
    if let Some(Ok(found)) = fields.get("version").and_then(toml::Value::as_integer).map(u32::try_from)
        && found != 0
        && let Err(why) = SPEAKS.can_use(Written::Folder, found)
    {
        return Err(FolderError::Unspoken { path: path.to_owned(), why });
    }
    toml::from_str(&text).map(Some).map_err(|error| damaged(error.message().to_owned()))
}

fn read(name: &Path) -> Result<Option<String>, FolderError> {
    let damaged = |why: &str| Err(FolderError::Damaged { path: name.to_owned(), why: why.to_owned() });
    match fs::read(name).map(String::from_utf8) {
        Ok(Ok(text)) => match text.split_once(SUM) {
            Some((text, sum)) if sum.trim_end() != sum_of(text) => damaged("its checksum does not fit"),
            _ => Ok(Some(text)),
        },
        Ok(Err(_)) => damaged("it is not text"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FolderError::io("read", name)(error)),
    }
}

fn read_members(path: &Path) -> Result<Option<Members>, FolderError> {
    let name = path.join(MEMBERS);
    let Some(text) = read(&name)? else { return Ok(None) };
    let damaged = |error: toml::de::Error| FolderError::Damaged { path: name.clone(), why: error.message().to_owned() };
    toml::from_str::<Nodes>(&text).map_err(damaged).map(|nodes| Some(nodes.into()))
}

fn check(found: &Identity, path: &Path, asked: NodeId) -> Result<Option<ClusterId>, FolderError> {
    if found.node != asked.0 {
        return Err(FolderError::AnotherNode { path: path.to_owned(), asked, found: NodeId(found.node) });
    }
    let Some(cluster) = &found.cluster else { return Ok(None) };
    let id = u64::from_str_radix(cluster, 16).map_err(|_| FolderError::Damaged {
        path: path.join(IDENTITY),
        why: format!("'{cluster}' is not the id of a cluster"),
    })?;
    Ok(Some(ClusterId(id)))
}

fn write_identity(path: &Path, identity: &Identity) -> Result<(), FolderError> {
    write(path, IDENTITY, "Whose data folder this is. Written by baton; do not edit.", identity)
}

/// What a file ends with: a checksum of all before.
const SUM: &str = "# checksum ";

fn sum_of(text: &str) -> String {
    format!("{:08x}", crc32c::crc32c(text.as_bytes()))
}

/// Replaces a file as a whole.
fn write(path: &Path, file: &str, about: &str, content: &impl Serialize) -> Result<(), FolderError> {
    let (name, new) = (path.join(file), path.join(format!("{file}.new")));
    let fields = toml::to_string(content).map_err(|error| FolderError::io("write", &name)(io::Error::other(error)))?;
    let text = format!("# {about}\n{fields}");
    let text = format!("{text}{SUM}{}\n", sum_of(&text));
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &name)?;
        sync_folder(path)
    };
    write().map_err(FolderError::io("write", &name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(2);

    fn error(path: &Path) -> FolderError {
        DataFolder::open(path, NODE).unwrap_err()
    }

    #[test]
    fn a_new_folder_is_made_and_keeps_its_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let mut folder = DataFolder::open(&path, NODE).unwrap();
        assert_eq!(folder.cluster(), None);
        folder.set_cluster(ClusterId(u64::MAX)).unwrap();
        drop(folder);
        let mut folder = DataFolder::open(&path, NODE).unwrap();
        assert_eq!((folder.node(), folder.cluster()), (NODE, Some(ClusterId(u64::MAX))));
        folder.set_cluster(ClusterId(u64::MAX)).unwrap();
        assert!(matches!(folder.set_cluster(ClusterId(1)), Err(FolderError::AnotherCluster { .. })));
    }

    #[test]
    fn the_list_of_nodes_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path(), NODE).unwrap();
        assert_eq!(folder.members().unwrap(), None);
        let (members, _) = Members::founding([(NODE, "host:1".to_owned())])
            .after(&baton_core::types::MemberChange::Join { address: "host:2".into() })
            .unwrap();
        folder.set_members(&members).unwrap();
        assert_eq!(folder.members().unwrap(), Some(members));
        let good = fs::read(dir.path().join(MEMBERS)).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(dir.path().join(MEMBERS), &bad).unwrap();
            let read = folder.members();
            let is_sum_lost = at >= good.len() - SUM.len() - 9;
            assert!(is_sum_lost || read.is_err_and(|error| error.is_damage()), "a bit of byte {at}");
        }
        fs::write(dir.path().join(MEMBERS), "next = x").unwrap();
        assert!(matches!(folder.members(), Err(FolderError::Damaged { .. })));
    }

    #[test]
    fn one_daemon_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path(), NODE).unwrap();
        assert!(matches!(error(dir.path()), FolderError::Locked { .. }));
        drop(folder);
        DataFolder::open(dir.path(), NODE).unwrap();
    }

    #[test]
    fn another_nodes_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataFolder::open(dir.path(), NodeId(7)).unwrap());
        assert!(matches!(error(dir.path()), FolderError::AnotherNode { found: NodeId(7), .. }));
        assert!(error(dir.path()).to_string().contains("belongs to node 7"));
    }

    #[test]
    fn a_folder_is_claimed_before_the_node_has_a_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        let claimed = ClaimedFolder::claim(&path).unwrap();
        assert!(matches!(error(&path), FolderError::Locked { .. }));
        drop(claimed);
        let claimed = ClaimedFolder::claim(&path).unwrap();
        let folder = claimed.of(NODE).unwrap();
        assert!(matches!(error(&path), FolderError::Locked { .. }));
        drop(folder);
        assert!(matches!(ClaimedFolder::claim(&path), Err(FolderError::Taken { found: NODE, .. })));
        assert_eq!(DataFolder::open(&path, NODE).unwrap().node(), NODE);
        fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        assert!(matches!(ClaimedFolder::claim(dir.path()), Err(FolderError::NotBatons { .. })));
    }

    #[test]
    fn what_is_not_batons_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        assert!(matches!(error(dir.path()), FolderError::NotBatons { .. }));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(matches!(error(&dir.path().join("thesis.tex")), FolderError::NotADirectory { .. }));
    }

    #[test]
    fn a_first_start_cut_short_can_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LOCK), "").unwrap();
        fs::write(dir.path().join("baton.toml.new"), "form").unwrap();
        DataFolder::open(dir.path(), NODE).unwrap();
    }

    #[test]
    fn newer_and_damaged_identities_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let identity = |text: &str| fs::write(dir.path().join(IDENTITY), text).unwrap();
        identity("format = 2\nowner = 'n2'\n");
        assert!(matches!(error(dir.path()), FolderError::Newer { found: 2, .. }));
        for damaged in
            ["", "format = 1\nno", "format = 1\n", "format = -1\nnode = 2\n", "format = 1\nnode = 2\ncluster = 'x'"]
        {
            identity(damaged);
            assert!(matches!(error(dir.path()), FolderError::Damaged { .. }), "{damaged:?}");
        }
    }

    #[test]
    fn what_another_build_wrote_is_refused_before_anything_is_opened() {
        for (version, is_spoken) in [(SPEAKS.newest, true), (SPEAKS.newest + 1, false), (SPEAKS.oldest - 1, false)] {
            let dir = tempfile::tempdir().unwrap();
            let mut folder = DataFolder::open(dir.path(), NODE).unwrap();
            folder.set_version(version).unwrap();
            folder.set_version(version - 1).unwrap(); // it is the newest that counts
            folder.set_member().unwrap();
            drop(folder);
            let identity = fs::read(dir.path().join(IDENTITY)).unwrap();
            match DataFolder::open(dir.path(), NODE) {
                Ok(_) => assert!(is_spoken, "{version}"),
                Err(error) => {
                    assert!(matches!(&error, FolderError::Unspoken { why, .. } if why.found == version), "{error}");
                    assert!(!is_spoken && !error.is_damage());
                    assert!(matches!(DataFolder::whose(dir.path()), Err(FolderError::Unspoken { .. })));
                }
            }
            assert_eq!(fs::read(dir.path().join(IDENTITY)).unwrap(), identity);
        }
    }

    #[test]
    fn a_disk_has_room() {
        let dir = tempfile::tempdir().unwrap();
        let space = DataFolder::open(dir.path(), NODE).unwrap().space().unwrap();
        assert!(space.free > 0 && space.free <= space.total);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told() {
        assert!(matches!(error(Path::new("/proc/baton")), FolderError::Io { .. }));
    }
}
