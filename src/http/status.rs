//! Reason phrases and the answers HAProxy makes itself when no `errorfile` says otherwise.

pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Payload Too Large",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Other",
    }
}

/// True if an answer with this status has no content, whatever its head says (RFC 9110, 6.4.1).
pub fn is_bare(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

/// As [`reason`]; where this knows none, what HAProxy says of the class.
pub fn reason_of(status: u16) -> &'static [u8] {
    match (reason(status), status / 100) {
        ("Other", 1) => b"Informational",
        ("Other", 2) => b"Success",
        ("Other", 3) => b"Redirection",
        ("Other", 4) => b"Client Error",
        ("Other", 5) => b"Server Error",
        (r, _) => r.as_bytes(),
    }
}

/// Statuses that an `errorfile` may be given for, with the title and the sentence of the answer (these bytes are what clients of the reference see).
const PAGES: &[(u16, &str, &str)] = &[
    (200, "200 OK", "Service ready."),
    (400, "400 Bad request", "Your browser sent an invalid request."),
    (401, "401 Unauthorized", "You need a valid user and password to access this content."),
    (403, "403 Forbidden", "Request forbidden by administrative rules."),
    (404, "404 Not Found", "The resource could not be found."),
    (
        405,
        "405 Method Not Allowed",
        "A request was made of a resource using a request method not supported by that resource.",
    ),
    (407, "407 Unauthorized", "You need a valid user and password to access this content."),
    (408, "408 Request Time-out", "Your browser didn't send a complete request in time."),
    (410, "410 Gone", "The resource is no longer available and will not be available again."),
    (413, "413 Payload Too Large", "The request entity exceeds the maximum allowed."),
    (414, "414 URI Too Long", "The URI provided was too long for the server to process."),
    (421, "421 Misdirected Request", "Request sent to a non-authoritative server."),
    (422, "422 Unprocessable Content", "The server cannot process the contained instructions."),
    (425, "425 Too Early", "Your browser sent early data."),
    (429, "429 Too Many Requests", "You have sent too many requests in a given amount of time."),
    (431, "431 Request Header Fields Too Large", "Request Header Fields Too Large."),
    (500, "500 Internal Server Error", "An internal server error occurred."),
    (501, "501 Not Implemented", "The server does not support the functionality required to fulfill the request."),
    (502, "502 Bad Gateway", "The server returned an invalid or incomplete response."),
    (503, "503 Service Unavailable", "No server is available to handle this request."),
    (504, "504 Gateway Time-out", "The server didn't respond in time."),
];

/// The statuses `errorfile` and `deny_status` take.
pub fn is_page(status: u16) -> bool {
    PAGES.iter().any(|p| p.0 == status)
}

/// The whole built-in answer for a status, head and body.
pub fn page(status: u16) -> Vec<u8> {
    let (_, title, text) = PAGES.iter().find(|p| p.0 == status).unwrap_or(&(
        500,
        "500 Internal Server Error",
        "An internal server error occurred.",
    ));
    let body = format!("<html><body><h1>{title}</h1>\n{text}\n</body></html>\n");
    let head = format!(
        "HTTP/1.1 {title}\r\ncontent-length: {}\r\ncache-control: no-cache\r\ncontent-type: text/html\r\n\r\n",
        body.len()
    );
    let mut all = head.into_bytes();
    all.extend_from_slice(body.as_bytes());
    all
}
