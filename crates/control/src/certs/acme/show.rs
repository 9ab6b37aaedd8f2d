//! show: what a CA wants to see is shown, until the guard is dropped: a token, a certificate, or a record in the DNS.

use super::{Cleanups, Dns, DnsHook, providers};
use portunus_relay::challenges::Challenges;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustix::process::{Pid, Signal, kill_process_group};
use std::future::pending;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, Command};

/// How long the program that changes the DNS may take.
const HOOK_TIME: Duration = Duration::from_secs(120);
/// How long the last that it has said is waited for when it has ended, and how much of it is kept.
const REST_TIME: Duration = Duration::from_secs(1);
const SAID_BYTES_MAX: usize = 4096;

/// Something that is shown until this is dropped.
pub struct Shown {
    hide: Option<Box<dyn FnOnce() + Send>>,
}

impl Shown {
    fn until(hide: impl FnOnce() + Send + 'static) -> Shown {
        Shown { hide: Some(Box::new(hide)) }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(hide) = self.hide.take() {
            hide();
        }
    }
}

/// An answer at port 80 (RFC 8555 §8.3).
pub fn token(challenges: &Arc<Challenges>, token: &str, text: &str) -> Result<Shown, String> {
    if !challenges.show_token(token, text) {
        return Err("too many challenges are shown at one time".to_owned());
    }
    let (challenges, token) = (Arc::clone(challenges), token.to_owned());
    Ok(Shown::until(move || challenges.hide_token(&token)))
}

/// A certificate with the digest in it (RFC 8737 §3).
pub fn certificate(challenges: &Arc<Challenges>, name: &str, digest: &[u8]) -> Result<Shown, String> {
    let (certificate, key) = made(name, digest).map_err(|error| error.to_string())?;
    let shown = challenges.show_proof(name, certificate, key.as_bytes()).map_err(|flaw| flaw.reason)?;
    if !shown {
        return Err("too many challenges are shown at one time".to_owned());
    }
    let (challenges, name) = (Arc::clone(challenges), name.to_owned());
    Ok(Shown::until(move || challenges.hide_proof(&name)))
}

fn made(name: &str, digest: &[u8]) -> Result<(Vec<u8>, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?;
    Ok((certificate.der().to_vec(), key.serialize_pem()))
}

/// A record in the DNS (RFC 8555 §8.4), by a program of the operator's or by a provider.
pub async fn record(
    dns: Option<&Dns>,
    name: &str,
    value: &str,
    cleanups: &Arc<Cleanups>,
) -> Result<Shown, String> {
    let dns = dns.ok_or("nobody puts records into the DNS")?.clone();
    let (record, value) = (format!("_acme-challenge.{name}."), value.to_owned());
    // Whoever fails may have put it there all the same.
    let shown = taken_away(dns.clone(), record.clone(), value.clone(), Arc::clone(cleanups));
    change(&dns, Change::Present, &record, &value).await?;
    let wait = match &dns {
        Dns::Exec(hook) => hook.wait,
        Dns::Provider(provider) => provider.wait,
    };
    tokio::time::sleep(wait).await;
    Ok(shown)
}

/// A record that is taken away when this is dropped.
fn taken_away(dns: Dns, record: String, value: String, cleanups: Arc<Cleanups>) -> Shown {
    let runtime = tokio::runtime::Handle::current();
    Shown::until(move || {
        let under_way = cleanups.begin(&record);
        runtime.spawn(async move {
            if let Err(reason) = change(&dns, Change::Cleanup, &record, &value).await {
                crate::observe::log::warn(format_args!("the record {record} may still be there: {reason}"));
            }
            drop(under_way);
        });
    })
}

/// What is done with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is put there.
    Present,
    /// It is taken away.
    Cleanup,
}

async fn change(dns: &Dns, change: Change, record: &str, value: &str) -> Result<(), String> {
    match (dns, change) {
        (Dns::Exec(hook), Change::Present) => call(hook, "present", record, value, HOOK_TIME).await,
        (Dns::Exec(hook), Change::Cleanup) => call(hook, "cleanup", record, value, HOOK_TIME).await,
        (Dns::Provider(provider), change) => providers::change(provider, change, record, value).await,
    }
}

/// Runs the program. When time is over, or nobody waits for it any more, it is ended with all that it has started.
async fn call(hook: &DnsHook, what: &str, record: &str, value: &str, time: Duration) -> Result<(), String> {
    let (program, first) =
        hook.command.split_first().ok_or("the program that changes the DNS has no name")?;
    let mut command = Command::new(program);
    command.args(first).args([what, record, value]).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let broken = |error: std::io::Error| format!("`{program}` cannot be run: {error}");
    let mut child = command.spawn().map_err(broken)?;
    let (mut stderr, mut said) = (child.stderr.take(), Vec::new());
    // It is dropped before the child is: its id is nobody else's until then.
    let mut group = Group::led_by(child.id());
    let ended = async {
        tokio::select! {
            status = child.wait() => status,
            // Whoever has nothing more to say may still be at work.
            status = async { hear(&mut stderr, &mut said).await; pending().await } => status,
        }
    };
    let status = tokio::time::timeout(time, ended).await;
    let status =
        status.map_err(|_| format!("`{program} {what}` has not ended within {} s", time.as_secs()))?;
    group.has_ended();
    let status = status.map_err(broken)?;
    if status.success() {
        return Ok(());
    }
    // What it has left behind may keep the pipe open for ever.
    let _ = tokio::time::timeout(REST_TIME, hear(&mut stderr, &mut said)).await;
    let said = String::from_utf8_lossy(&said);
    let last: String = said.trim().lines().next_back().unwrap_or("").chars().take(200).collect();
    Err(format!("`{program} {what}` has failed ({status}): {last}"))
}

/// Reads all of it, and keeps the end.
async fn hear(stderr: &mut Option<ChildStderr>, said: &mut Vec<u8>) {
    let Some(stderr) = stderr else { return };
    let mut piece = [0; SAID_BYTES_MAX];
    while let Ok(length @ 1..) = stderr.read(&mut piece).await {
        said.extend_from_slice(piece.get(..length).unwrap_or_default());
        said.drain(..said.len().saturating_sub(SAID_BYTES_MAX));
    }
}

/// A program with all that it has started, which is killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn led_by(id: Option<u32>) -> Group {
        Group(id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// It has come to its end, and its id may be somebody else's.
    fn has_ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = kill_process_group(leader, Signal::KILL); // who is gone need not be killed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsRawFd;

    #[test]
    fn what_is_shown_is_hidden_again() {
        let challenges = Arc::new(Challenges::default());
        let path = "/.well-known/acme-challenge/abc";
        let shown = token(&challenges, "abc", "abc.key").unwrap();
        assert_eq!(challenges.answer(path).as_deref(), Some("abc.key"));
        drop(shown);
        assert_eq!(challenges.answer(path), None);
        let shown = certificate(&challenges, "a.example", &[7; 32]).unwrap();
        assert!(challenges.connection("a.example").is_some() && challenges.connection("b.example").is_none());
        drop(shown);
        assert!(challenges.connection("a.example").is_none());
    }

    #[tokio::test]
    async fn a_hook_that_hangs_is_ended_with_what_it_has_started() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let open = format!("/proc/{}/fd/{}", std::process::id(), writer.as_raw_fd());
        // Whoever lives has the pipe open for writing.
        let hook = shell(&format!("exec 9>{open}; sleep 1000 & echo x >&9; wait"));
        let error = call(&hook, "present", "record", "value", Duration::from_millis(500)).await.unwrap_err();
        assert!(error.contains("has not ended within"), "{error}");
        drop(writer);
        let mut said = String::new();
        let read = tokio::task::spawn_blocking(move || reader.read_to_string(&mut said).map(|_| said));
        let read = tokio::time::timeout(Duration::from_secs(10), read).await;
        assert_eq!(read.expect("nobody to live").unwrap().unwrap(), "x\n");
    }

    fn shell(text: &str) -> DnsHook {
        DnsHook { command: vec!["/bin/sh".into(), "-c".into(), text.into()], wait: Duration::ZERO }
    }

    #[tokio::test]
    async fn a_hook_that_leaves_somebody_behind_has_ended() {
        // Whoever is left has its stderr open, and ends with the pipe that it reads.
        for (status, end) in [(0, "Ok(())"), (3, "no such zone")] {
            let (reader, writer) = std::io::pipe().unwrap();
            let open = format!("/proc/{}/fd/{}", std::process::id(), reader.as_raw_fd());
            let hook = shell(&format!("exec 9< {open}; cat <&9 >&2 & echo no such zone >&2; exit {status}"));
            let called = call(&hook, "present", "record", "value", Duration::from_secs(30));
            let called = tokio::time::timeout(Duration::from_secs(10), called).await;
            assert!(format!("{called:?}").contains(end), "{called:?}");
            drop(writer);
        }
    }

    #[tokio::test]
    async fn of_what_a_hook_says_only_the_end_is_kept() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "head -c 1000000 /dev/zero >&2; echo no such zone >&2"]).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut stderr, mut said) = (child.stderr.take(), Vec::new());
        hear(&mut stderr, &mut said).await;
        assert!(child.wait().await.unwrap().success() && said.ends_with(b"no such zone\n"));
        assert!(said.capacity() <= 4 * SAID_BYTES_MAX, "{}", said.capacity());
    }

    #[tokio::test]
    async fn a_hook_that_fails_is_quoted() {
        let folder = std::env::temp_dir().join(format!("portunus-hook-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let script = folder.join("hook");
        let out = folder.join("out");
        let text = format!(
            "if [ $2 = cleanup ]; then echo gone >> {0}; exit 0; fi\n[ $1 = x ] && echo \"$2 $3 $4\" > {0} && exit 0\necho no such zone >&2; exit 3",
            out.display()
        );
        std::fs::write(&script, text).unwrap();
        let hook = |first: &str| {
            Dns::Exec(DnsHook {
                command: vec!["/bin/sh".into(), script.display().to_string(), first.into()],
                wait: Duration::ZERO,
            })
        };
        let cleanups = Arc::default();
        let shown = record(Some(&hook("x")), "a.example", "value", &cleanups).await.unwrap();
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "present _acme-challenge.a.example. value\n");
        drop(shown);
        let gone = || std::fs::read_to_string(&out).unwrap().matches("gone").count();
        let soon = || tokio::time::Instant::now() + Duration::from_secs(10);
        cleanups.finish(soon()).await;
        assert_eq!(gone(), 1, "the end waits for it");
        let error = record(Some(&hook("y")), "a.example", "value", &cleanups).await.err().unwrap();
        assert!(error.contains("no such zone") && error.contains("present"), "{error}");
        cleanups.finish(soon()).await;
        assert_eq!(gone(), 2);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
