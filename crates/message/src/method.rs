//! Method: the registered request methods (RFC 9110 §9 and the IANA registry).

use std::fmt;

/// A registered method. A well-formed but unregistered method cannot be held; it is answered 501.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method(u8);

macro_rules! names {
    ($($id:ident $text:literal),+ $(,)?) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, missing_docs)]
        #[repr(u8)]
        enum Index { $($id),+ }
        const TEXT: &[&str] = &[$($text),+];
        #[allow(missing_docs)]
        impl Method { $(pub const $id: Method = Method(Index::$id as u8);)+ }
    };
}

names! {
    GET "GET", HEAD "HEAD", POST "POST", PUT "PUT", DELETE "DELETE", OPTIONS "OPTIONS", PATCH "PATCH",
    CONNECT "CONNECT", TRACE "TRACE", ACL "ACL", BASELINE_CONTROL "BASELINE-CONTROL", BIND "BIND",
    CHECKIN "CHECKIN", CHECKOUT "CHECKOUT", COPY "COPY", LABEL "LABEL", LINK "LINK", LOCK "LOCK",
    MERGE "MERGE", MKACTIVITY "MKACTIVITY", MKCALENDAR "MKCALENDAR", MKCOL "MKCOL",
    MKREDIRECTREF "MKREDIRECTREF", MKWORKSPACE "MKWORKSPACE", MOVE "MOVE", ORDERPATCH "ORDERPATCH",
    PROPFIND "PROPFIND", PROPPATCH "PROPPATCH", PURGE "PURGE", QUERY "QUERY", REBIND "REBIND", REPORT "REPORT",
    SEARCH "SEARCH", UNBIND "UNBIND", UNCHECKOUT "UNCHECKOUT", UNLINK "UNLINK", UNLOCK "UNLOCK",
    UPDATE "UPDATE", UPDATEREDIRECTREF "UPDATEREDIRECTREF", VERSION_CONTROL "VERSION-CONTROL",
}

impl Method {
    /// The method spelled by `text`, in its exact letter case (RFC 9110 §9.1: methods are case-sensitive).
    pub fn parse(text: &[u8]) -> Option<Method> {
        TEXT.iter().position(|name| name.as_bytes() == text).and_then(|at| u8::try_from(at).ok()).map(Method)
    }

    /// The method's name.
    pub fn as_str(self) -> &'static str {
        TEXT.get(usize::from(self.0)).copied().unwrap_or("GET")
    }

    /// Every registered method.
    pub fn all() -> impl Iterator<Item = Method> {
        (0u8..).take(TEXT.len()).map(Method)
    }

    /// RFC 9110 §9.2.1: asks for nothing to change.
    pub fn is_safe(self) -> bool {
        matches!(
            self,
            Method::GET
                | Method::HEAD
                | Method::OPTIONS
                | Method::TRACE
                | Method::PROPFIND
                | Method::REPORT
                | Method::SEARCH
                | Method::QUERY
        )
    }

    /// RFC 9110 §9.2.2: doing it twice means the same as doing it once.
    pub fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Method::PUT | Method::DELETE)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_parses_back() {
        for method in Method::all() {
            assert_eq!(Method::parse(method.as_str().as_bytes()), Some(method));
        }
        assert_eq!(Method::parse(b"get"), None);
        assert_eq!(Method::parse(b"BREW"), None);
    }
}
