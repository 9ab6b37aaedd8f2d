//! tests: the access log against real files, pipes and a full disk.

use super::*;
use portunus_message::Status;
use std::io::Read;
use std::path::{Path, PathBuf};

fn clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_798_761_599_123)
}

/// A directory of this test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("portunus-log-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path, limits: &Limits) -> AccessLog {
    let wanted = plan::AccessLog { format: LogFormat::Json, to: LogTarget::File(path.to_owned()) };
    AccessLog::open(Some(&wanted), limits, clock).unwrap()
}

fn record(recorder: &mut dyn Recorder, count: usize) {
    let exchange = Exchange { sent: Some(Status::OK), ..Exchange::default() };
    for _ in 0..count {
        recorder.record(&exchange, &Names::default());
    }
}

#[test]
fn every_line_arrives_in_a_file() {
    let folder = Folder::new("file");
    let path = folder.0.join("access.log");
    let log = open(&path, &Limits::default());
    let mut workers = [log.recorder(), log.recorder()];
    for worker in &mut workers {
        record(worker.as_mut(), 1234);
    }
    drop(workers);
    assert_eq!(log.close(Duration::from_secs(10)), 0);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2468);
    for line in text.lines() {
        let parsed: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(parsed["time"], "2026-12-31T23:59:59.123Z");
    }
}

#[test]
fn a_moved_file_is_opened_again() {
    let folder = Folder::new("reopen");
    let (path, moved) = (folder.0.join("access.log"), folder.0.join("access.log.1"));
    let log = open(&path, &Limits::default());
    std::fs::rename(&path, &moved).unwrap();
    log.reopen();
    let mut recorder = log.recorder();
    record(recorder.as_mut(), 5);
    drop(recorder);
    assert_eq!(log.close(Duration::from_secs(10)), 0);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 5);
    assert_eq!(std::fs::read_to_string(&moved).unwrap(), "");
}

#[test]
fn t35_a_pipe_that_nobody_reads_stops_nobody() {
    let folder = Folder::new("fifo");
    let path = folder.0.join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let limits = Limits { log_queue: 256 << 10, ..Limits::default() };
    let log = open(&path, &limits);
    let mut recorder = log.recorder();
    let began = Instant::now();
    record(recorder.as_mut(), 20_000);
    drop(recorder);
    assert!(log.dropped() > 10_000);
    let lost = log.close(Duration::from_secs(1));
    assert_eq!(lost, 20_000, "none was written, each is counted");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn t35_what_a_slow_reader_gets_and_what_is_dropped_add_up() {
    let folder = Folder::new("slow");
    let path = folder.0.join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let limits = Limits { log_queue: 256 << 10, ..Limits::default() };
    let log = open(&path, &limits);
    let mut recorder = log.recorder();
    record(recorder.as_mut(), 20_000);
    drop(recorder);
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::fs::File::open(&path).unwrap().read_to_string(&mut text).unwrap();
        text.lines().count() as u64
    });
    let lost = log.close(Duration::from_secs(10));
    assert!(lost > 0);
    drop(log);
    assert_eq!(reader.join().unwrap() + lost, 20_000);
}

#[test]
fn t34_a_full_disk_drops_and_counts() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let log = open(Path::new("/dev/full"), &Limits::default());
    let mut recorder = log.recorder();
    record(recorder.as_mut(), 100);
    drop(recorder);
    assert_eq!(log.close(Duration::from_secs(10)), 100);
}

#[test]
fn format_and_target_change_while_running() {
    let folder = Folder::new("change");
    let (first, second) = (folder.0.join("first.log"), folder.0.join("second.log"));
    let limits = Limits::default();
    let log = open(&first, &limits);
    let wanted = plan::AccessLog { format: LogFormat::Combined, to: LogTarget::File(second.clone()) };
    let missing = LogTarget::File(folder.0.join("no/such/folder.log"));
    assert!(log.prepare(Some(&plan::AccessLog { to: missing, ..wanted.clone() }), &limits).is_err());
    log.apply(log.prepare(Some(&wanted), &limits).unwrap());
    let mut recorder = log.recorder();
    record(recorder.as_mut(), 1);
    log.apply(log.prepare(None, &limits).unwrap());
    record(recorder.as_mut(), 1);
    drop(recorder);
    assert_eq!(log.close(Duration::from_secs(10)), 0);
    assert_eq!(std::fs::read_to_string(&first).unwrap(), "");
    let text = std::fs::read_to_string(&second).unwrap();
    assert_eq!(text, "127.0.0.1 - - [31/Dec/2026:23:59:59 +0000] \"-\" 200 0 \"-\" \"-\"\n");
}
