//! What programs do on a real mount, with a file system in this process behind it.

mod support;

use baton_fs_mount::fuse::{Kept, MountError, MountOptions, mount};
use rustix::fs::{FallocateFlags, RenameFlags, SeekFrom, XattrFlags};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use support::Fs;

fn sh(fs: &Fs, script: &str) -> String {
    let output = Command::new("sh").arg("-ec").arg(script).current_dir(fs.root()).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn ordinary_commands_work() {
    let fs = Fs::new();
    sh(&fs, "mkdir -p a/b/c && echo one > a/b/c/f && echo two >> a/b/c/f && ln a/b/c/f g && ln -s a/b/c l");
    assert_eq!(sh(&fs, "cat l/f"), "one\ntwo\n");
    assert_eq!(sh(&fs, "stat -c %h g"), "2\n");
    assert_eq!(sh(&fs, "mv a z && cat z/b/c/f && rm z/b/c/f && cat g"), "one\ntwo\none\ntwo\n");
    assert_eq!(sh(&fs, "umask 027; mkdir m; touch m/f; mkfifo m/p; stat -c %a m m/f m/p"), "750\n640\n640\n");
    assert_eq!(sh(&fs, "touch -d '1969-12-31 23:59:58.25 UTC' g && stat -c %.9Y g"), "-1.750000000\n");
    assert_eq!(sh(&fs, "rm -r z l g m && ls -A"), "");
}

#[test]
fn a_program_is_executed_from_the_mount() {
    let fs = Fs::new();
    fs::write(fs.path("script"), "#!/bin/sh\necho ran $1\n").unwrap();
    fs::set_permissions(fs.path("script"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(sh(&fs, "./script well"), "ran well\n");
    assert_eq!(sh(&fs, "cp /bin/true binary && ./binary && echo $?"), "0\n");
    assert_eq!(sh(&fs, "chmod 644 binary; ./binary 2>/dev/null || echo $?"), "126\n");
}

#[test]
fn a_listing_shows_every_entry_once() {
    let fs = Fs::new();
    const N: usize = 10_000;
    for i in 0..N {
        File::create(fs.path(&format!("file-{i}"))).unwrap();
    }
    let names: Vec<_> = fs::read_dir(fs.root()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), N);
    assert_eq!(names.into_iter().collect::<BTreeSet<_>>().len(), N);
    assert_eq!(sh(&fs, "ls -la | wc -l").trim(), (N + 3).to_string());
}

#[test]
fn a_listing_goes_on_where_it_was_whatever_is_removed() {
    let fs = Fs::new();
    for i in 0..3000 {
        File::create(fs.path(&format!("f{i}"))).unwrap();
    }
    let mut seen = BTreeSet::new();
    for (i, entry) in fs::read_dir(fs.root()).unwrap().enumerate() {
        let entry = entry.unwrap();
        assert!(seen.insert(entry.file_name()));
        if i % 2 == 0 {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    assert_eq!(seen.len(), 3000);
}

#[test]
fn renames_keep_or_exchange_when_told() {
    let fs = Fs::new();
    fs::write(fs.path("a"), "a").unwrap();
    fs::write(fs.path("b"), "b").unwrap();
    let dir = File::open(fs.root()).unwrap();
    let rename = |flags| rustix::fs::renameat_with(&dir, "a", &dir, "b", flags);
    assert_eq!(rename(RenameFlags::NOREPLACE), Err(rustix::io::Errno::EXIST));
    rename(RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::read(fs.path("a")).unwrap(), b"b");
    assert_eq!(rename(RenameFlags::WHITEOUT), Err(rustix::io::Errno::INVAL));
    rename(RenameFlags::empty()).unwrap();
    assert_eq!(fs::read(fs.path("b")).unwrap(), b"b");
    assert!(!fs.path("a").exists());
}

#[test]
fn extended_attributes_are_kept() {
    let fs = Fs::new();
    let path = fs.path("f");
    fs::write(&path, "").unwrap();
    rustix::fs::setxattr(&path, "user.a", b"value", XattrFlags::CREATE).unwrap();
    assert_eq!(rustix::fs::setxattr(&path, "user.a", b"", XattrFlags::CREATE), Err(rustix::io::Errno::EXIST));
    let mut room = [0u8; 64];
    assert_eq!(rustix::fs::getxattr_query(&path, "user.a"), Ok(5));
    assert_eq!(rustix::fs::getxattr(&path, "user.a", &mut room[..3]), Err(rustix::io::Errno::RANGE));
    assert_eq!(rustix::fs::getxattr(&path, "user.a", &mut room), Ok(5));
    assert_eq!(&room[..5], b"value");
    let len = rustix::fs::listxattr(&path, &mut room).unwrap();
    assert_eq!(&room[..len], b"user.a\0");
    rustix::fs::removexattr(&path, "user.a").unwrap();
    assert_eq!(rustix::fs::getxattr(&path, "user.a", &mut room), Err(rustix::io::Errno::NODATA));
}

#[test]
fn holes_are_made_and_found() {
    let fs = Fs::new();
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(fs.path("f")).unwrap();
    file.write_all_at(&[1; 4096], 0).unwrap();
    file.write_all_at(&[2; 4096], 1 << 20).unwrap();
    assert_eq!(rustix::fs::seek(&file, SeekFrom::Hole(0)), Ok(4096));
    assert_eq!(rustix::fs::seek(&file, SeekFrom::Data(4096)), Ok(1 << 20));
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, 0, 4096).unwrap();
    assert_eq!(rustix::fs::seek(&file, SeekFrom::Hole(0)), Ok(0));
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 1 << 20, 1 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 2 << 20);
    let mut page = [9; 4096];
    file.read_exact_at(&mut page, 0).unwrap();
    assert_eq!(page, [0; 4096]);
}

#[test]
fn a_range_is_copied() {
    let fs = Fs::new();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
    fs::write(fs.path("from"), &bytes).unwrap();
    let (from, to) = (File::open(fs.path("from")).unwrap(), File::create(fs.path("to")).unwrap());
    let (mut at, mut to_at) = (10, 5);
    while at < bytes.len() as u64 {
        assert_ne!(rustix::fs::copy_file_range(&from, Some(&mut at), &to, Some(&mut to_at), 1 << 30).unwrap(), 0);
    }
    let copied = fs::read(fs.path("to")).unwrap();
    assert!(copied[..5] == [0; 5] && copied[5..] == bytes[10..]);
}

#[test]
fn large_writes_come_back_and_appends_go_to_the_end() {
    let fs = Fs::new();
    let bytes: Vec<u8> = (0..5_000_001u32).map(|i| (i / 3) as u8).collect();
    fs::write(fs.path("f"), &bytes).unwrap();
    assert!(fs::read(fs.path("f")).unwrap() == bytes);
    let mut one = OpenOptions::new().append(true).create(true).open(fs.path("log")).unwrap();
    let mut two = OpenOptions::new().append(true).open(fs.path("log")).unwrap();
    for _ in 0..10 {
        one.write_all(b"one\n").unwrap();
        two.write_all(b"two\n").unwrap();
    }
    assert_eq!(fs::read_to_string(fs.path("log")).unwrap(), "one\ntwo\n".repeat(10));
}

#[test]
fn a_removed_file_lives_while_it_is_open() {
    let fs = Fs::new();
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(fs.path("f")).unwrap();
    file.write_all(b"still here").unwrap();
    fs::remove_file(fs.path("f")).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    file.set_len(5).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    let mut page = [0; 10];
    assert_eq!(file.read_at(&mut page, 0).unwrap(), 5);
    assert_eq!(&page[..5], b"still");
}

/// Python maps files for us: this workspace has no unsafe code.
#[test]
fn mapped_files_are_read_and_written() {
    let fs = Fs::new();
    let script = "import mmap,os\n\
        f=open('f','w+b',buffering=0); f.write(b'a'*10000)\n\
        m=mmap.mmap(f.fileno(),10000); assert m[9999]==97; m[5000:5005]=b'hello'; m.flush()\n\
        assert os.pread(f.fileno(),5,5000)==b'hello'\n\
        os.pwrite(f.fileno(),b'world',5000); assert m[5000:5005]==b'world'\n\
        m[0]=98; m.close(); assert os.pread(f.fileno(),1,0)==b'b'\n";
    fs::write(fs.path("map.py"), script).unwrap();
    sh(&fs, "python3 map.py");
}

#[test]
fn long_names_and_bad_targets_are_refused() {
    let fs = Fs::new();
    File::create(fs.path(&"n".repeat(255))).unwrap();
    let long = File::create(fs.path(&"n".repeat(256))).unwrap_err();
    assert_eq!(long.raw_os_error(), Some(36));
    assert_eq!(symlink("", fs.path("l")).unwrap_err().raw_os_error(), Some(2));
}

#[test]
fn a_mount_point_is_used_once_and_given_back() {
    let fs = Fs::new();
    let root = fs.root().to_owned();
    let again = mount(std::sync::Arc::new(Nobody), &root, &MountOptions { nonempty: true, ..Default::default() }, 1);
    assert!(matches!(again, Err(MountError::AlreadyMounted { .. })), "{again:?}");
    let open = File::create(fs.path("open")).unwrap();
    assert!(matches!(fs.mounted.unmount(), Err(MountError::Busy(_))));
    assert!(fs.path("open").exists());
    drop(open);
    // The kernel may close a file a moment after close(2) returned.
    while let Err(error) = fs.mounted.unmount() {
        assert!(matches!(error, MountError::Busy(_)), "{error}");
        std::thread::yield_now();
    }
    fs.mounted.join().unwrap();
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
}

#[test]
fn unmounting_from_outside_ends_the_wait() {
    let fs = Fs::new();
    let path = fs.root().to_owned();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| fs.mounted.join());
        assert!(Command::new("umount").arg(&path).status().unwrap().success());
        waiter.join().unwrap().unwrap();
    });
}

struct Nobody;

impl baton_fs_mount::fuse::Caller for Nobody {
    fn call(
        &self,
        _who: baton_fs_mount::fuse::Who,
        _call: baton_core::mount::Call,
        done: baton_fs_mount::fuse::OnDone,
    ) {
        done(Err(baton_core::types::Errno::EIO), Kept::default());
    }
}
