//! A small file system to compare with: nodes that hold plain bytes and plain maps, found by path. It shares no code and no
//! idea with the one it checks, beyond the numbers of the errors. Everybody is root here: permissions have tests of their
//! own.

use baton_core::types::Errno;
use std::collections::BTreeMap;

pub type Id = usize;
pub type Outcome<T = ()> = Result<T, Errno>;
/// Names from the root down; symbolic links are not followed.
pub type Path = Vec<String>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Dir(BTreeMap<String, Id>),
    File(Vec<u8>),
    Link(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Replace,
    NoReplace,
    Exchange,
}

pub struct Model {
    /// Nodes are never dropped: what no name leads to is simply not found.
    pub nodes: Vec<Node>,
}

impl Default for Model {
    fn default() -> Model {
        Model { nodes: vec![Node::Dir(BTreeMap::new())] }
    }
}

impl Model {
    pub const ROOT: Id = 0;

    fn entries(&self, id: Id) -> Outcome<&BTreeMap<String, Id>> {
        match &self.nodes[id] {
            Node::Dir(entries) => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn entries_mut(&mut self, id: Id) -> &mut BTreeMap<String, Id> {
        match &mut self.nodes[id] {
            Node::Dir(entries) => entries,
            other => panic!("not a directory: {other:?}"),
        }
    }

    pub fn find(&self, path: &[String]) -> Outcome<Id> {
        path.iter().try_fold(Self::ROOT, |at, name| self.entries(at)?.get(name).copied().ok_or(Errno::ENOENT))
    }

    /// The directory that a path ends in, and the name there.
    fn place<'p>(&self, path: &'p [String]) -> Outcome<(Id, &'p String)> {
        let (name, dir) = path.split_last().expect("the root has no place");
        let dir = self.find(dir)?;
        self.entries(dir)?;
        Ok((dir, name))
    }

    fn there(&self, path: &[String]) -> Outcome<(Id, String, Id)> {
        let (dir, name) = self.place(path)?;
        Ok((dir, name.clone(), self.find(path)?))
    }

    fn is_dir(&self, id: Id) -> bool {
        matches!(self.nodes[id], Node::Dir(_))
    }

    pub fn add(&mut self, path: &[String], node: Node) -> Outcome {
        self.nodes.push(node);
        self.attach(path, self.nodes.len() - 1)
    }

    fn attach(&mut self, path: &[String], id: Id) -> Outcome {
        let (dir, name) = self.place(path)?;
        if self.entries(dir)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.entries_mut(dir).insert(name.clone(), id);
        Ok(())
    }

    pub fn link(&mut self, from: &[String], to: &[String]) -> Outcome {
        let id = self.find(from)?;
        let (dir, name) = self.place(to)?;
        if self.entries(dir)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        if self.is_dir(id) {
            return Err(Errno::EPERM);
        }
        self.attach(to, id)
    }

    pub fn unlink(&mut self, path: &[String]) -> Outcome {
        let (dir, name, id) = self.there(path)?;
        if self.is_dir(id) {
            return Err(Errno::EISDIR);
        }
        self.entries_mut(dir).remove(&name);
        Ok(())
    }

    pub fn rmdir(&mut self, path: &[String]) -> Outcome {
        let (dir, name, id) = self.there(path)?;
        if !self.entries(id)?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.entries_mut(dir).remove(&name);
        Ok(())
    }

    /// Whether `lower` is `upper` or somewhere in it.
    fn holds(&self, upper: Id, lower: Id) -> bool {
        upper == lower
            || match &self.nodes[upper] {
                Node::Dir(entries) => entries.values().any(|child| self.holds(*child, lower)),
                _ => false,
            }
    }

    pub fn rename(&mut self, from: &[String], to: &[String], how: Move) -> Outcome {
        let (dir, name) = self.place(from)?;
        let (new_dir, new_name) = self.place(to)?;
        let moved = self.find(from)?;
        let replaced = self.entries(new_dir)?.get(new_name).copied();
        match (how, replaced) {
            (Move::NoReplace, Some(_)) => return Err(Errno::EEXIST),
            (Move::Exchange, None) => return Err(Errno::ENOENT),
            _ => {}
        }
        if self.is_dir(moved) && self.holds(moved, new_dir) {
            return Err(Errno::EINVAL);
        }
        if let Some(replaced) = replaced {
            if self.is_dir(replaced) && self.holds(replaced, dir) {
                return Err(if how == Move::Exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
            }
            if moved == replaced {
                return Ok(());
            }
            if how == Move::Exchange {
                self.entries_mut(dir).insert(name.clone(), replaced);
                self.entries_mut(new_dir).insert(new_name.clone(), moved);
                return Ok(());
            }
            self.replaceable(moved, replaced)?;
        }
        self.entries_mut(dir).remove(name);
        self.entries_mut(new_dir).insert(new_name.clone(), moved);
        Ok(())
    }

    fn replaceable(&self, moved: Id, replaced: Id) -> Outcome {
        match (self.is_dir(moved), self.is_dir(replaced)) {
            (true, false) => Err(Errno::ENOTDIR),
            (false, true) => Err(Errno::EISDIR),
            (true, true) if !self.entries(replaced)?.is_empty() => Err(Errno::ENOTEMPTY),
            _ => Ok(()),
        }
    }

    /// The bytes of a regular file.
    pub fn bytes(&mut self, path: &[String]) -> Outcome<&mut Vec<u8>> {
        let id = self.find(path)?;
        match &mut self.nodes[id] {
            Node::File(bytes) => Ok(bytes),
            Node::Dir(_) => Err(Errno::EISDIR),
            Node::Link(_) => Err(Errno::EINVAL),
        }
    }

    pub fn write(&mut self, path: &[String], offset: Option<usize>, data: &[u8]) -> Outcome {
        let bytes = self.bytes(path)?;
        let offset = offset.unwrap_or(bytes.len());
        if data.is_empty() {
            return Ok(());
        }
        let end = offset + data.len();
        bytes.resize(bytes.len().max(end), 0);
        bytes[offset..end].copy_from_slice(data);
        Ok(())
    }

    pub fn truncate(&mut self, path: &[String], size: usize) -> Outcome {
        self.bytes(path)?.resize(size, 0);
        Ok(())
    }

    /// Makes a range zeros, without making the file longer unless `grow`.
    pub fn zero(&mut self, path: &[String], offset: usize, len: usize, grow: bool) -> Outcome {
        let bytes = self.bytes(path)?;
        if grow {
            bytes.resize(bytes.len().max(offset + len), 0);
        }
        let end = bytes.len().min(offset + len);
        if offset < end {
            bytes[offset..end].fill(0);
        }
        Ok(())
    }

    pub fn copy(&mut self, from: &[String], at: usize, to: &[String], to_at: usize, len: usize) -> Outcome {
        let source = self.bytes(from)?.clone();
        self.bytes(to)?;
        if self.find(from)? == self.find(to)? && at.abs_diff(to_at) < len {
            return Err(Errno::EINVAL);
        }
        let end = source.len().min(at + len);
        if at < end { self.write(to, Some(to_at), &source[at..end]) } else { Ok(()) }
    }

    /// How many names lead to a node.
    pub fn names(&self, id: Id) -> usize {
        self.count(Self::ROOT, id)
    }

    fn count(&self, dir: Id, id: Id) -> usize {
        let Node::Dir(entries) = &self.nodes[dir] else { return 0 };
        entries.values().map(|child| usize::from(*child == id) + self.count(*child, id)).sum()
    }
}
