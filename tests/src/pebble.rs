//! pebble: a real CA that speaks ACME, made for tests (package pebble), with a DNS server that says every name is here.

use crate::binary::has;
use crate::place::{Place, Port, eventually};
use crate::tls::Authority;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The CA: at first it is only known where it will be.
pub struct Pebble {
    place: Place,
    main: Port,
    management: Port,
    dns: Port,
    dns_management: Port,
    running: Vec<Child>,
}

/// What it is like.
#[derive(Clone, Debug)]
pub struct Temper {
    /// Where it looks for answers over HTTP, and over TLS.
    pub looks_at: [SocketAddr; 2],
    /// How long its certificates are good.
    pub validity: Duration,
    /// Whether accounts need another one that was made before; its id and key are [`EAB`].
    pub eab: bool,
    /// The name server that it asks; none: one of its own, which says that every name is here.
    pub names: Option<SocketAddr>,
}

impl Temper {
    /// One that looks at these addresses.
    pub fn looking_at(http: SocketAddr, tls: SocketAddr) -> Temper {
        Temper {
            looks_at: [http, tls],
            validity: Duration::from_secs(90 * 24 * 3600),
            eab: false,
            names: None,
        }
    }
}

/// The account that is known before, when one is needed.
pub const EAB: [&str; 2] = ["kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"];

impl Pebble {
    /// Knows where it will be; nobody answers there yet.
    pub fn new() -> Pebble {
        assert!(has("pebble"), "`cargo xtask test` installs it");
        let (place, authority) = (Place::new(), Authority::new("the CA's own"));
        authority.issue(&["localhost"]).write(&place, "own");
        place.write("trust.pem", authority.certificate());
        let [main, management, dns, dns_management] = [(); 4].map(|()| Port::free());
        Pebble { place, main, management, dns, dns_management, running: Vec::new() }
    }

    /// `ca …` in `acme { … }`.
    pub fn ca(&self) -> String {
        format!("ca {} trust={}", self.directory(), self.place.file("trust.pem").display())
    }

    /// The URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.main.address().port())
    }

    /// The file with the certificate that it is believed by.
    pub fn trust(&self) -> String {
        self.place.file("trust.pem").display().to_string()
    }

    /// A shell command that puts the record `$1` with the value `$2` into its DNS.
    pub fn set_record(&self) -> String {
        let url = format!("http://{}/set-txt", self.dns_management.address());
        format!(r#"curl -sf -d "{{\"host\":\"$1\",\"value\":\"$2\"}}" {url}"#)
    }

    /// From now on it answers.
    pub fn start(&mut self, temper: &Temper) {
        let config = serde_json::json!({ "pebble": {
            "listenAddress": self.main.address().to_string(),
            "managementListenAddress": self.management.address().to_string(),
            "certificate": self.place.file("own.pem"),
            "privateKey": self.place.file("own.key"),
            "httpPort": temper.looks_at[0].port(),
            "tlsPort": temper.looks_at[1].port(),
            "externalAccountBindingRequired": temper.eab,
            "externalAccountMACKeys": { EAB[0]: EAB[1] },
            "certificateValidityPeriod": temper.validity.as_secs(),
        }});
        let config = self.place.write("pebble.json", config.to_string());
        let dns = self.dns.address().to_string();
        let mut names = Command::new("pebble-challtestsrv");
        names.args(["-defaultIPv6", "", "-defaultIPv4", "127.0.0.1", "-http01", "", "-https01", ""]);
        names.args(["-tlsalpn01", "", "-dns01", &dns]);
        names.args(["-management", &self.dns_management.address().to_string()]);
        let mut ca = Command::new("pebble");
        let asked = temper.names.map_or(dns, |names| names.to_string());
        ca.arg("-config").arg(config).args(["-dnsserver", &asked]);
        ca.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "5");
        for mut command in [names, ca] {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            self.running.push(command.spawn().expect("to run"));
        }
        for port in [&self.main, &self.management, &self.dns_management] {
            let answers = || TcpStream::connect(port.address()).ok().map(drop);
            eventually("the CA", Duration::from_secs(20), answers);
        }
    }

    /// The root that its certificates come from, in PEM; another one after each start.
    pub fn root(&self) -> String {
        let url = format!("https://localhost:{}/roots/0", self.management.address().port());
        let output = Command::new("curl").args(["-sf", "--cacert", &self.trust(), &url]).output();
        let output = output.expect("curl");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("PEM")
    }

    /// From now on nobody answers there.
    pub fn stop(&mut self) {
        for mut child in self.running.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Default for Pebble {
    fn default() -> Pebble {
        Pebble::new()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.stop();
    }
}
