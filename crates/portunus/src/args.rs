//! args: the command line.

use crate::exit::Exit;
use clap::{CommandFactory, Parser, Subcommand};
use std::net::IpAddr;
use std::path::PathBuf;

/// A reverse proxy: one binary that stands in front of services.
#[derive(Debug, Parser)]
#[command(name = "portunus", version, about, max_term_width = 100)]
#[command(after_help = EXIT_CODES)]
pub struct Args {
    /// The configuration file; by default ./portunus.conf, then /etc/portunus/portunus.conf
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check the configuration, as `check` does
    #[arg(short = 't')]
    pub test: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run with a configuration file
    Run(File),
    /// Run without a file: pass on everything to one or more servers
    Proxy {
        /// A server: host:port; several share the requests
        #[arg(long, required = true, value_name = "SERVER")]
        to: Vec<String>,
        /// Where to listen: :port or address:port
        #[arg(long, default_value = ":8080", value_name = "ADDRESS")]
        from: String,
    },
    /// See it work: three small servers of its own behind a proxy on 127.0.0.1
    Demo {
        /// Where to listen
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// Find every mistake in a configuration; needs no network
    Check {
        /// Answer in JSON
        #[arg(long)]
        json: bool,
        /// Show the limits in force, too
        #[arg(long)]
        verbose: bool,
        #[command(flatten)]
        file: File,
    },
    /// Print the configuration as JSON
    Adapt(File),
    /// Print the configuration in its usual form, comments kept
    Fmt {
        /// Write it back to the file
        #[arg(long)]
        write: bool,
        /// The file; - for standard input
        file: Option<PathBuf>,
    },
    /// Tell which route a request takes, and why
    Explain(Question),
    /// Print the JSON Schema of what `adapt` prints
    Schema,
    /// Let the running program load its configuration anew
    Reload(At),
    /// Show what the running program does
    Status {
        #[command(flatten)]
        at: At,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Let the program on disk take over from the running one, which finishes what it has
    Upgrade(At),
    /// Let a host of a pool take nothing new, and finish what it has
    Drain(AtHost),
    /// Let a host that drains serve again
    Undrain(AtHost),
    /// Give a host of a pool another weight
    Weight {
        #[command(flatten)]
        host: AtHost,
        /// Its share, 0 to 65535, or `default` for the one written
        weight: String,
    },
    /// Make a host a member of a pool
    Add {
        #[command(flatten)]
        host: AtHost,
        /// Its share
        #[arg(long, value_name = "NUMBER")]
        weight: Option<u32>,
        /// Use it only when no other is left
        #[arg(long)]
        backup: bool,
    },
    /// Take a host out of a pool
    Remove(AtHost),
    /// Let the running program finish what it has, and end
    Stop(At),
    /// Let this machine believe the internal CA (`tls internal`): put its certificate into the system's list
    Trust {
        /// Print the certificate instead, for other machines and browsers
        #[arg(long)]
        print: bool,
    },
    /// Print the completions of a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// The configuration file, for those who name it without `-c`.
#[derive(Debug, clap::Args)]
pub struct File {
    /// The configuration file, as with -c
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub file: Option<PathBuf>,
}

/// A request to explain.
#[derive(Debug, clap::Args)]
pub struct Question {
    /// The request's method
    pub method: String,
    /// The request's URL
    pub url: String,
    /// A header field, as 'Name: value'; may be repeated
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    pub headers: Vec<String>,
    /// The client's address
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub client: IpAddr,
}

/// A host of a pool of the running program.
#[derive(Debug, clap::Args)]
pub struct AtHost {
    /// The pool's name
    pub pool: String,
    /// The host, as `status` names it
    pub host: String,
    /// Keep it for the next start, too; wants `state` in the configuration
    #[arg(long)]
    pub persist: bool,
    #[command(flatten)]
    pub at: At,
}

/// Where the running program can be spoken to.
#[derive(Debug, clap::Args)]
pub struct At {
    /// Its admin address, unix:/path or ip:port; by default the one of the configuration
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// The token for a TCP admin address; by default the one of the configuration
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// Without a command: what there is, and that something was missing.
pub fn help() -> Result<(), Exit> {
    let text = Args::command().render_help();
    Err(Exit::usage(text.to_string().trim_end()))
}

const EXIT_CODES: &str = "\
Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 bad configuration, 4 could not listen.
Signals: HUP reload, TERM and INT and QUIT finish what runs and end, a second one ends at once, USR1 reopen logs,
USR2 upgrade: the program on disk takes over.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Args::command().debug_assert();
        let args = Args::try_parse_from(["portunus", "-t", "-c", "x"]).unwrap();
        assert!(args.test && args.config.is_some());
        let args = Args::try_parse_from(["portunus", "run", "-c", "x"]).unwrap();
        assert!(args.config.is_some());
        for command in ["run", "check", "adapt"] {
            let args = Args::try_parse_from(["portunus", command, "x"]).unwrap();
            assert!(args.config.is_none());
            assert!(Args::try_parse_from(["portunus", command, "x", "-c", "y"]).is_err(), "which one?");
        }
        assert!(Args::try_parse_from(["portunus", "proxy"]).is_err());
        assert!(Args::try_parse_from(["portunus", "explain", "GET", "http://a/", "-H", "X: y"]).is_ok());
    }
}
