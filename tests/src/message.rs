//! message: heads as the harness reads them, by the letter of RFC 9112 and no more.

/// The fields of a head, in order; values are Latin-1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The value of the only field `name`; more than one is a failed test.
    pub fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "field {name} stands {} times: {all:?}", all.len());
        all.first().copied()
    }

    /// All values of `name`.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// Whether there is a field `name`.
    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
}

/// A request as it arrived at an origin.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The target as it stood in the request line.
    pub target: String,
    /// `HTTP/1.1`, or what stood there.
    pub version: String,
    /// The fields.
    pub fields: Fields,
    /// The body, chunks joined; empty until it was read.
    pub body: Vec<u8>,
    /// Whether the body came whole.
    pub complete: bool,
    /// Every byte of the head.
    pub head: Vec<u8>,
    /// Which of the origin's connections it came by, counted from 0.
    pub connection: usize,
    /// Which request of that connection it was, counted from 0.
    pub index: usize,
}

impl Request {
    /// The value of query parameter `name`.
    pub fn query(&self, name: &str) -> Option<&str> {
        let query = self.target.split_once('?')?.1;
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

/// An answer as it arrived at a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// `HTTP/1.1`, or what stood there.
    pub version: String,
    /// The fields.
    pub fields: Fields,
    /// The body, chunks joined.
    pub body: Vec<u8>,
    /// Every byte of the head.
    pub head: Vec<u8>,
    /// The statuses and fields of the informational answers before it.
    pub informational: Vec<(u16, Fields)>,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Fails the test unless the status is `status`.
    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{}{}", String::from_utf8_lossy(&self.head), self.text());
        self
    }
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Until the connection ends.
    UntilClose,
}

/// Reads a request head, with its closing empty line.
pub fn request(head: &[u8]) -> Result<Request, String> {
    let (line, fields) = parts(head)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(format!("request line {line:?}"));
    };
    if method.is_empty() || !method.bytes().all(is_token) || target.is_empty() {
        return Err(format!("request line {line:?}"));
    }
    if version != "HTTP/1.1" && version != "HTTP/1.0" {
        return Err(format!("version {version:?}"));
    }
    let request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        version: version.to_owned(),
        fields,
        head: head.to_vec(),
        ..Request::default()
    };
    request_framing(&request)?;
    Ok(request)
}

/// Reads a response head, with its closing empty line.
pub fn response(head: &[u8]) -> Result<Response, String> {
    let (line, fields) = parts(head)?;
    let mut words = line.splitn(3, ' ');
    let (Some(version), Some(status), Some(reason)) = (words.next(), words.next(), words.next()) else {
        return Err(format!("status line {line:?}"));
    };
    if version != "HTTP/1.1" && version != "HTTP/1.0" {
        return Err(format!("version {version:?}"));
    }
    let status = match status.parse::<u16>() {
        Ok(code @ 100..=999) if status.len() == 3 => code,
        _ => return Err(format!("status {status:?}")),
    };
    let (version, reason) = (version.to_owned(), reason.to_owned());
    Ok(Response { status, reason, version, fields, head: head.to_vec(), ..Response::default() })
}

/// How the body of `request` is delimited (RFC 9112 §6.3).
pub fn request_framing(request: &Request) -> Result<Framing, String> {
    Ok(stated_framing(&request.fields)?.unwrap_or(Framing::None))
}

/// How the body of `response` to a request with `method` is delimited (RFC 9112 §6.3).
pub fn response_framing(response: &Response, method: &str) -> Result<Framing, String> {
    let stated = stated_framing(&response.fields)?;
    if matches!(response.status, 100..=199 | 204) && stated.is_some() {
        return Err(format!("{} with framing fields", response.status));
    }
    if method == "HEAD" || matches!(response.status, 100..=199 | 204 | 304) {
        return Ok(Framing::None);
    }
    Ok(stated.unwrap_or(Framing::UntilClose))
}

fn stated_framing(fields: &Fields) -> Result<Option<Framing>, String> {
    let (codings, lengths) = (fields.all("transfer-encoding"), fields.all("content-length"));
    match (codings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(None),
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked)),
        ([], [length]) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => length
            .parse()
            .map(|length| Some(Framing::Length(length)))
            .map_err(|_| format!("length {length:?}")),
        _ => Err(format!("framing {codings:?} {lengths:?}")),
    }
}

/// The first line and the fields; every line must end in CRLF and hold no other control byte than HTAB in a value.
fn parts(head: &[u8]) -> Result<(String, Fields), String> {
    let text: String = head.iter().map(|&byte| char::from(byte)).collect();
    let Some(text) = text.strip_suffix("\r\n\r\n") else { return Err("head without end".to_owned()) };
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or("");
    if first.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err(format!("control byte in {first:?}"));
    }
    let mut fields = Vec::new();
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return Err(format!("field line {line:?}")) };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii() && is_token(c as u8)) {
            return Err(format!("field name {name:?}"));
        }
        if value.chars().any(|c| (c < ' ' && c != '\t') || c == '\u{7f}') {
            return Err(format!("field value {value:?}"));
        }
        fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    Ok((first.to_owned(), Fields(fields)))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
