//! A clock on the wall that the test turns: for one process, by a library that stands before the system's own.

use super::{Process, folder};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The clock that only goes forward is left alone, as it is where somebody sets a machine's date.
#[derive(Clone)]
pub struct FalseClock {
    library: PathBuf,
    offset: PathBuf,
}

impl FalseClock {
    /// `None`, with the reason printed, where that library is not installed.
    pub fn new() -> Option<FalseClock> {
        let places = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
        let library = places.map(|place| place.join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file());
        if library.is_none() {
            eprintln!("SKIPPED: faketime is not installed, so no clock jumps");
        }
        let clock = FalseClock { library: library?, offset: folder("clock").join("offset") };
        clock.is_off_by(0);
        Some(clock)
    }

    pub fn is_off_by(&self, seconds: i64) {
        std::fs::write(&self.offset, format!("{seconds:+}\n")).expect("a file that can be written");
    }

    pub(super) fn give_to(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", &self.offset);
        command.env("FAKETIME_CACHE_DURATION", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }

    /// Whether what is started with it believes it.
    pub fn is_believed(&self) -> bool {
        let mut date = Command::new("date");
        date.arg("+%Y");
        self.give_to(&mut date);
        self.is_off_by(100 * 365 * 86_400);
        let mut process = Process::start("date", date);
        process.wait_for_end(Duration::from_secs(10));
        self.is_off_by(0);
        process.said().trim().parse::<u32>().is_ok_and(|year| year > 2100)
    }
}
