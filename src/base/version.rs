//! Whose language is spoken, and what this program has of it.

/// The version of HAProxy whose interfaces are spoken, as tools parse it.
pub const VERSION: &str = "3.4.0";
pub const RELEASE_DATE: &str = "2026/06/03";

/// The feature list of `-vv` and of `feature()`: a name, and whether it is here. TLS is rustls on AWS-LC: who asks for OPENSSL wants to know whether `ssl` may be said.
pub const FEATURES: &[(&str, bool)] = &[
    ("EPOLL", true),
    ("HAVE_TCP_MD5SIG", true),
    ("HAVE_WORKING_TCP_MD5SIG", true),
    ("LINUX_SPLICE", true),
    ("LINUX_TPROXY", true),
    ("LUA", false),
    ("NS", false),
    ("OPENSSL", true),
    ("OPENSSL_AWSLC", true),
    ("PCRE", false),
    ("PCRE2", false),
    ("PROMEX", true),
    ("QUIC", false),
    ("RUSTLS", true),
    ("SLZ", false),
    ("TFO", true),
    ("THREAD", true),
    ("TPROXY", true),
    ("VRRP", true),
    ("ZLIB", true),
];

/// What `enabled()` finds.
pub const ENABLED: &[&str] = &["POLL", "EPOLL", "SPLICE", "FAST-FORWARD", "GETADDRINFO", "REUSEPORT"];

/// The TLS library, for `ssllib_name_startswith()`; and the version of OpenSSL's interface that it stands for.
pub const TLS_LIBRARY: &str = "AWS-LC";
pub const OPENSSL: &str = "1.1.1";
