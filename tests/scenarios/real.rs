//! real: servers and clients that others have written.

use portunus_tests::binary::has;
use portunus_tests::proxy::{signal, site};
use portunus_tests::{Client, Origin, Place, Proxy, eventually};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);

/// A program that the test has started; it ends with it.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // An end by TERM, so that it can end its own workers.
        if matches!(self.0.try_wait(), Ok(None)) {
            signal(self.0.id(), "TERM");
            let ended = || self.0.try_wait().ok().flatten();
            eventually("a server's end", SOON, ended);
        }
    }
}

/// Starts what `command` makes of a free address, and waits until it listens there.
fn start_at_free_port(command: impl Fn(&str, u16) -> Command) -> (Server, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    let mut made = command(&address.to_string(), address.port());
    let child =
        made.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("to start");
    let server = Server(child);
    eventually("a server", SOON, || Client::try_connect(address));
    (server, address)
}

#[test]
fn nginx_as_origin() {
    if !has("nginx") {
        return;
    }
    let place = Place::new();
    place.write("index.html", "hello from nginx");
    place.write("big", vec![b'x'; 5 << 20]);
    let folder = place.path().display().to_string();
    let (_server, port) = start_at_free_port(|address, _| {
        let conf = format!(
            "daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n\
             events {{}}\nhttp {{ access_log off; client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2;\n\
             fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;\n\
             server {{ listen {address}; root {folder}; keepalive_requests 20; gzip on; gzip_min_length 1; gzip_types *; }} }}\n"
        );
        let path = place.write("nginx.conf", conf);
        let mut command = Command::new("nginx");
        command.arg("-c").arg(path).arg("-p").arg(&folder);
        command
    });
    let proxy = Proxy::site(format!("proxy {port}"));
    let mut client = proxy.client();
    for _ in 0..200 {
        assert_eq!(client.get("/").expect(200).text(), "hello from nginx");
    }
    assert_eq!(client.get("/big").expect(200).body.len(), 5 << 20);
    let chunked = client.exchange("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n").expect(200);
    assert_eq!(chunked.fields.one("content-encoding"), Some("gzip"));
    let part = client.exchange("GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=0-4\r\n\r\n").expect(206);
    assert_eq!(part.text(), "hello");
    client.exchange("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").expect(200);
    client.get("/missing").expect(404);
    client.post("/", "body").expect(405);
    let tag = client.get("/").fields.one("etag").expect("ETag").to_owned();
    client.exchange(format!("GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: {tag}\r\n\r\n")).expect(304);
    client.get("/").expect(200);
}

#[test]
fn python_as_origin() {
    if !has("python3") {
        return;
    }
    let place = Place::new();
    place.write("index.html", "hello from python");
    let folder = place.path().display().to_string();
    let (_server, port) = start_at_free_port(|_, port| {
        let mut command = Command::new("python3");
        command.args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1", "--directory", &folder]);
        command
    });
    let proxy = Proxy::site(format!("proxy {port}"));
    let mut client = proxy.client();
    for _ in 0..20 {
        assert_eq!(
            client.get("/index.html").expect(200).text(),
            "hello from python",
            "HTTP/1.0, closed each time"
        );
    }
    client.get("/missing").expect(404);
    client.post("/", "body").expect(501);
    client.exchange("HEAD /index.html HTTP/1.1\r\nHost: a\r\n\r\n").expect(200);
}

#[test]
fn node_as_origin_with_its_keep_alive_race() {
    if !has("node") {
        return;
    }
    let place = Place::new();
    let script = place.write(
        "server.js",
        "const http = require('http');\n\
         const server = http.createServer((req, res) => {\n\
           let n = 0; req.on('data', d => n += d.length);\n\
           req.on('end', () => { if (req.url === '/chunks') { res.write('a'); res.write('b'); res.end('c'); } else res.end(String(n)); });\n\
         });\n\
         server.keepAliveTimeout = 20;\n\
         server.on('upgrade', (req, socket) => { socket.write('HTTP/1.1 101 X\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n' +\n\
           'Sec-WebSocket-Accept: ' + require('crypto').createHash('sha1').update(req.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64') + '\\r\\n\\r\\n'); socket.pipe(socket); });\n\
         server.listen(Number(process.argv[2]), '127.0.0.1');\n",
    );
    let (_server, port) = start_at_free_port(|_, port| {
        let mut command = Command::new("node");
        command.arg(&script).arg(port.to_string());
        command
    });
    let proxy = Proxy::site(format!("proxy {port}"));
    let mut client = proxy.client();
    for number in 0..100 {
        // Pauses around the time at which node closes its idle connections.
        std::thread::park_timeout(Duration::from_millis(10 + number % 25));
        assert_eq!(client.get("/").expect(200).text(), "0");
        assert_eq!(client.post("/", "12345").expect(200).text(), "5");
    }
    assert_eq!(client.get("/chunks").expect(200).text(), "abc");
    let mut socket = proxy.client();
    socket.send(
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n\r\n",
    );
    assert_eq!(socket.response_head().status, 101);
    socket.send("echo");
    assert_eq!(socket.exactly(4), b"echo");
}

#[test]
fn curl_as_client() {
    if !has("curl") {
        return;
    }
    let origin = Origin::serve(|request| {
        portunus_tests::Answer::text(&format!("{} {} {}", request.method, request.target, request.body.len()))
    });
    let proxy = Proxy::site(format!("proxy {origin}"));
    let url = |path: &str| format!("http://{}{path}", proxy.address());
    let curl = |arguments: &[&str]| {
        let output =
            Command::new("curl").args(["-sS", "--max-time", "20"]).args(arguments).output().expect("curl");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(curl(&[&url("/a")]), "GET /a 0");
    assert_eq!(curl(&["--http1.0", &url("/a")]), "GET /a 0");
    assert_eq!(curl(&["-X", "POST", "-d", "hello", &url("/b")]), "POST /b 5");
    assert_eq!(curl(&["-H", "Transfer-Encoding: chunked", "-d", "hello", &url("/b")]), "POST /b 5");
    assert_eq!(curl(&["-H", "Expect: 100-continue", "-d", "hello", &url("/b")]), "POST /b 5");
    assert_eq!(curl(&[&url("/1"), &url("/2"), &url("/3")]), "GET /1 0GET /2 0GET /3 0");
    assert_eq!(curl(&["--path-as-is", &url("/a/../b")]), "GET /b 0");
    let file = proxy.place().write("upload", vec![b'x'; 3 << 20]);
    assert_eq!(curl(&["-T", &file.to_string_lossy(), &url("/up")]), format!("PUT /up {}", 3 << 20));
    assert!(curl(&["-I", &url("/a")]).starts_with("HTTP/1.1 200"));
    // curl asks for an upgrade to HTTP/2 and must get a plain answer.
    assert_eq!(curl(&["--http2", &url("/a")]), "GET /a 0");
}

#[test]
fn wrk_as_client() {
    if !has("wrk") || !has("nginx") {
        return;
    }
    let place = Place::new();
    let folder = place.path().display().to_string();
    let (_server, port) = start_at_free_port(|address, _| {
        let conf = format!(
            "daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n\
             events {{}}\nhttp {{ access_log off; client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2;\n\
             fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;\n\
             server {{ listen {address}; location / {{ return 200 ok; }} }} }}\n"
        );
        let path = place.write("nginx.conf", conf);
        let mut command = Command::new("nginx");
        command.arg("-c").arg(path).arg("-p").arg(&folder);
        command
    });
    let proxy = Proxy::start(&format!("log access off\nworkers 2\n{}", site(&format!("proxy {port}"))));
    let url = format!("http://{}/", proxy.address());
    let output =
        Command::new("wrk").args(["-t2", "-c64", "-d2s", "--timeout", "20s", &url]).output().expect("wrk");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
    let total = proxy.metric("portunus_requests_total", &[]);
    assert!(total > 100.0, "{total} requests: {text}");
    // What wrk leaves behind when its time is up ends as 499.
    for status in ["400", "408", "500", "502", "503", "504"] {
        let label = format!("http_response_status_code=\"{status}\"");
        assert_eq!(proxy.metric("portunus_requests_total", &[&label]), 0.0, "{status}");
    }
}
