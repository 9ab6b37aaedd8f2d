//! store: where accounts, keys and certificates are kept, and who may change them; the file system, until somebody brings another one.

use std::fmt::Debug;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Keeps values under keys, for one program or for several that share it. A key is a path of plain names: `acme/certificates/example.com.pem`.
/// Whatever ends the program at whatever moment: each value is there as it was before, or as it was written.
pub trait Store: Send + Sync + Debug {
    /// The value under `key`; none when there is none.
    fn read(&self, key: &str) -> io::Result<Option<Vec<u8>>>;

    /// Puts a value there: whole, or not at all.
    fn write(&self, key: &str, value: &[u8]) -> io::Result<()>;

    /// Takes a value away; that it was not there is no failure.
    fn remove(&self, key: &str) -> io::Result<()>;

    /// The right to do what `key` stands for, until the guard is dropped or the program has ended; none while somebody else has it.
    fn lock(&self, key: &str) -> io::Result<Option<Box<dyn Held>>>;

    /// Where the value under `key` is, for people.
    fn place(&self, key: &str) -> String;
}

/// The right to do something; it ends when this is dropped.
pub trait Held: Send + Sync {}

/// A directory that only its owner may look into.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    /// The directory; it is made when something is written into it.
    pub fn at(root: PathBuf) -> Disk {
        Disk { root }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }
}

impl Store for Disk {
    fn read(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.path(key)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, key: &str, value: &[u8]) -> io::Result<()> {
        let path = self.path(key);
        let directory = path.parent().unwrap_or(&self.root);
        make(directory)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Whoever writes a key has its lock, so what is left of an earlier attempt is nobody's.
        let new = directory.join(format!(".{name}.new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(value)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        File::open(directory)?.sync_all()
    }

    fn remove(&self, key: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn lock(&self, key: &str) -> io::Result<Option<Box<dyn Held>>> {
        let path = self.path(&format!("locks/{}", key.replace('/', "_")));
        make(path.parent().unwrap_or(&self.root))?;
        loop {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            // The kernel takes it back from whoever ends, however that comes about.
            match file.try_lock() {
                // Whoever had it has removed it after we opened it: there may be another one by now.
                Ok(()) if file.metadata()?.nlink() == 0 => {}
                Ok(()) => return Ok(Some(Box::new(Locked { path, _file: file }))),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    fn place(&self, key: &str) -> String {
        self.path(key).display().to_string()
    }
}

/// An open file that is locked.
struct Locked {
    path: PathBuf,
    _file: File,
}

impl Drop for Locked {
    /// As long as it is locked it is the one of that name, so no other is removed. One that stays is taken by whoever wants it next.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Held for Locked {}

fn make(directory: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// A store that ends with the test.
    #[derive(Debug, Default)]
    pub struct Memory(Mutex<BTreeMap<String, Vec<u8>>>);

    impl Memory {
        /// The values under keys that begin so.
        pub fn values(&self, prefix: &str) -> Vec<Vec<u8>> {
            let all = self.0.lock().unwrap();
            all.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(_, value)| value.clone()).collect()
        }
    }

    impl Held for () {}

    impl Store for Memory {
        fn read(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
            Ok(self.0.lock().unwrap().get(key).cloned())
        }

        fn write(&self, key: &str, value: &[u8]) -> io::Result<()> {
            self.0.lock().unwrap().insert(key.to_owned(), value.to_owned());
            Ok(())
        }

        fn remove(&self, key: &str) -> io::Result<()> {
            self.0.lock().unwrap().remove(key);
            Ok(())
        }

        fn lock(&self, _: &str) -> io::Result<Option<Box<dyn Held>>> {
            Ok(Some(Box::new(())))
        }

        fn place(&self, key: &str) -> String {
            key.to_owned()
        }
    }

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("portunus-store-{name}-{}", std::process::id()))
    }

    #[test]
    fn what_is_written_is_read_by_its_owner_only() {
        let root = folder("modes");
        let disk = Disk::at(root.clone());
        assert_eq!(disk.read("a/b.pem").unwrap(), None);
        disk.write("a/b.pem", b"one").unwrap();
        disk.write("a/b.pem", b"two").unwrap();
        assert_eq!(disk.read("a/b.pem").unwrap().as_deref(), Some(&b"two"[..]));
        let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(root.join("a/b.pem")), mode(root.join("a")), mode(root.clone())),
            (0o600, 0o700, 0o700)
        );
        assert_eq!(std::fs::read_dir(root.join("a")).unwrap().count(), 1, "nothing is left lying around");
        disk.remove("a/b.pem").unwrap();
        disk.remove("a/b.pem").unwrap();
        assert_eq!(disk.read("a/b.pem").unwrap(), None);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_lock_is_had_by_one_and_given_back() {
        let root = folder("locks");
        let (one, other) = (Disk::at(root.clone()), Disk::at(root.clone()));
        let held = one.lock("acme/example.com").unwrap().unwrap();
        assert!(other.lock("acme/example.com").unwrap().is_none());
        assert!(other.lock("acme/example.net").unwrap().is_some());
        drop(held);
        assert!(other.lock("acme/example.com").unwrap().is_some());
        assert_eq!(std::fs::read_dir(root.join("locks")).unwrap().count(), 0, "nothing is left of it");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_lock_is_never_had_by_two() {
        let root = folder("contended");
        let (disk, inside, had) = (Disk::at(root.clone()), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while had.load(Relaxed) < 400 {
                        let Some(held) = disk.lock("a").unwrap() else { continue };
                        assert_eq!(inside.fetch_add(1, Relaxed), 0);
                        had.fetch_add(1, Relaxed);
                        inside.fetch_sub(1, Relaxed);
                        drop(held);
                    }
                });
            }
        });
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_an_attempt_has_left_behind_is_in_nobodys_way() {
        let root = folder("left");
        let disk = Disk::at(root.clone());
        disk.write("a.pem", b"whole").unwrap();
        std::fs::write(root.join(".a.pem.new"), b"a half that is longer than the whole").unwrap();
        assert_eq!(disk.read("a.pem").unwrap().as_deref(), Some(&b"whole"[..]));
        disk.write("a.pem", b"next").unwrap();
        assert_eq!(disk.read("a.pem").unwrap().as_deref(), Some(&b"next"[..]));
        std::fs::remove_dir_all(root).unwrap();
    }
}
