//! TLS on rustls: what `bind ... ssl` and `server ... ssl` become. Files come through a [`Source`], so the chrooted worker opens none.
mod suites;

use crate::config::model::{BindTls, ServerTls, TlsLimits, TlsVersion};
use crate::config::source::Source;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer, ServerName, UnixTime,
};
use std::collections::HashMap;
use std::sync::Arc;
pub use suites::{cipher_name, version_name};

/// Certificates by the names they are for.
#[derive(Debug, Default)]
struct Certificates {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// Keyed by what follows `*.`.
    wild: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
    strict: bool,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = hello.server_name() else { return self.default.clone().filter(|_| !self.strict) };
        let name = name.to_ascii_lowercase();
        self.exact
            .get(&name)
            .or_else(|| name.split_once('.').and_then(|(_, base)| self.wild.get(base)))
            .or_else(|| self.default.as_ref().filter(|_| !self.strict))
            .cloned()
    }
}

impl Certificates {
    fn add(&mut self, key: CertifiedKey) {
        let key = Arc::new(key);
        for name in key.cert.first().map(|c| names(c)).unwrap_or_default() {
            match name.strip_prefix("*.") {
                Some(base) => self.wild.entry(base.to_owned()).or_insert_with(|| key.clone()),
                None => self.exact.entry(name).or_insert_with(|| key.clone()),
            };
        }
        self.default.get_or_insert(key);
    }
}

/// DNS names a certificate is for, or its common name when it has none.
fn names(der: &[u8]) -> Vec<String> {
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
    let Ok((_, cert)) = X509Certificate::from_der(der) else { return Vec::new() };
    let mut out = Vec::new();
    if let Ok(Some(san)) = cert.subject_alternative_name() {
        for n in &san.value.general_names {
            if let GeneralName::DNSName(d) = n {
                out.push(d.to_ascii_lowercase());
            }
        }
    }
    if out.is_empty() {
        out.extend(cert.subject().iter_common_name().filter_map(|a| a.as_str().ok()).map(str::to_ascii_lowercase));
    }
    out
}

/// Reads a PEM with a chain and its key; the key may stand in `<file>.key`.
fn certified(path: &str, src: &mut dyn Source, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let pem = src.read(path)?;
    let (mut chain, mut key) = (Vec::new(), None);
    let mut take = |bytes: &[u8], certs: bool| -> Result<(), String> {
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
            let (kind, der) = section.map_err(|e| format!("not PEM: {e}"))?;
            match kind {
                SectionKind::Certificate if certs => chain.push(CertificateDer::from(der)),
                SectionKind::PrivateKey => {
                    key = key.take().or(Some(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der))))
                }
                SectionKind::RsaPrivateKey => {
                    key = key.take().or(Some(PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der))))
                }
                SectionKind::EcPrivateKey => {
                    key = key.take().or(Some(PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der))))
                }
                _ => {}
            }
        }
        Ok(())
    };
    take(&pem, true)?;
    if let Ok(extra) = src.read(&format!("{path}.key")) {
        take(&extra, false)?;
    }
    if chain.is_empty() {
        return Err("holds no certificate".into());
    }
    let key = key.ok_or("holds no private key that can be read (an encrypted one cannot); append the key, or put it into a file of the same name plus '.key'")?;
    CertifiedKey::from_der(chain, key, provider).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => "the private key does not belong to the first certificate".to_owned(),
        e => e.to_string(),
    })
}

fn versions(l: &TlsLimits, base: &TlsLimits) -> Result<&'static [&'static SupportedProtocolVersion], String> {
    static V12: &[&SupportedProtocolVersion] = &[&version::TLS12];
    static V13: &[&SupportedProtocolVersion] = &[&version::TLS13];
    static BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    let min = l.min.or(base.min);
    let max = l.max.or(base.max);
    match (min, max) {
        (Some(TlsVersion::V13), Some(TlsVersion::V12)) => Err("the version limits leave no TLS version".into()),
        (Some(TlsVersion::V13), _) => Ok(V13),
        (_, Some(TlsVersion::V12)) => Ok(V12),
        _ => Ok(BOTH),
    }
}

fn provider(l: &TlsLimits, base: &TlsLimits) -> Arc<CryptoProvider> {
    let mut p = aws_lc_rs::default_provider();
    let v12 = l.ciphers.as_ref().or(base.ciphers.as_ref());
    let v13 = l.ciphersuites.as_ref().or(base.ciphersuites.as_ref());
    p.cipher_suites.retain(|s| {
        let name = cipher_name(s.suite());
        let list = if name.starts_with("TLS_") { v13 } else { v12 };
        list.is_none_or(|l| l.iter().any(|n| n == name))
    });
    Arc::new(p)
}

/// The server side of one `bind ... ssl`. `base` is `ssl-default-bind-*`, `crt_base` the directory relative names are in.
pub fn server_config(
    b: &BindTls,
    base: &TlsLimits,
    crt_base: Option<&str>,
    src: &mut dyn Source,
) -> Result<Arc<ServerConfig>, String> {
    let provider = provider(&b.limits, base);
    let mut certs = Certificates { strict: b.strict_sni, ..Certificates::default() };
    for path in &b.crt {
        let path = match crt_base {
            Some(dir) if !path.starts_with('/') => format!("{}/{path}", dir.trim_end_matches('/')),
            _ => path.clone(),
        };
        let files = match src.list(&path) {
            Some(names) => {
                let skip = [".key", ".ocsp", ".sctl", ".issuer", ".dh"];
                let files: Vec<String> = names
                    .iter()
                    .filter(|n| !n.starts_with('.') && !skip.iter().any(|s| n.ends_with(s)))
                    .map(|n| format!("{}/{n}", path.trim_end_matches('/')))
                    .collect();
                if files.is_empty() {
                    return Err(format!("directory '{path}' holds no certificate"));
                }
                files
            }
            None => vec![path],
        };
        for f in files {
            certs.add(certified(&f, src, &provider).map_err(|e| format!("cannot use certificate '{f}' : {e}"))?);
        }
    }
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(&b.limits, base)?)
        .map_err(|e| e.to_string())?;
    let mut c = builder.with_no_client_auth().with_cert_resolver(Arc::new(certs));
    c.alpn_protocols = b.alpn.iter().map(|a| a.as_bytes().to_vec()).collect();
    c.ignore_client_order = true;
    if b.limits.no_tickets || base.no_tickets {
        c.send_tls13_tickets = 0;
    } else {
        c.ticketer = aws_lc_rs::Ticketer::new().map_err(|e| e.to_string())?;
    }
    Ok(Arc::new(c))
}

/// Accepts any certificate (`verify none`); the handshake's signature is still checked.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(m, c, d, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(m, c, d, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Checks the chain; the name is compared with `name` only if there is one (`verifyhost` or a fixed `sni`), as in HAProxy.
#[derive(Debug)]
struct ChainAndHost {
    inner: Arc<rustls::client::WebPkiServerVerifier>,
    /// The certificates of the ca-file: one that is the server's own is trusted as it stands, as OpenSSL does.
    pinned: Vec<CertificateDer<'static>>,
    name: Option<ServerName<'static>>,
}

impl ChainAndHost {
    fn valid_now(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
        use rustls::CertificateError::{BadEncoding, Expired, NotValidYet};
        let (_, c) = x509_parser::parse_x509_certificate(leaf).map_err(|_| BadEncoding)?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let v = c.validity();
        if now < v.not_before.timestamp() {
            return Err(NotValidYet.into());
        }
        if now > v.not_after.timestamp() {
            return Err(Expired.into());
        }
        Ok(())
    }
}

impl ServerCertVerifier for ChainAndHost {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        asked: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        let name = self.name.as_ref().map_or(asked, |n| n);
        match self.inner.verify_server_cert(leaf, chain, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
                if self.name.is_none() =>
            {
                Ok(ServerCertVerified::assertion())
            }
            Err(e) if self.pinned.iter().any(|p| p == leaf) => {
                self.valid_now(leaf, now)?;
                match &self.name {
                    None => Ok(ServerCertVerified::assertion()),
                    Some(n) => {
                        let parsed = rustls::server::ParsedCertificate::try_from(leaf).map_err(|_| e)?;
                        rustls::client::verify_server_name(&parsed, n)?;
                        Ok(ServerCertVerified::assertion())
                    }
                }
            }
            r => r,
        }
    }
    fn verify_tls12_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(m, c, d)
    }
    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(m, c, d)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The client side of one `server ... ssl`.
pub fn client_config(s: &ServerTls, base: &TlsLimits, src: &mut dyn Source) -> Result<Arc<ClientConfig>, String> {
    let provider = provider(&s.limits, base);
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions(&s.limits, base)?)
        .map_err(|e| e.to_string())?;
    let verifier: Arc<dyn ServerCertVerifier> = if s.verify {
        let path = s.ca_file.as_deref().ok_or("verify is enabled but no ca-file given")?;
        let mut roots = RootCertStore::empty();
        let mut pinned = Vec::new();
        if path == "@system-ca" {
            for dir in SYSTEM_CA {
                if let Ok(pem) = src.read(dir) {
                    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
                    break;
                }
            }
        } else {
            let pem = src.read(path).map_err(|e| format!("cannot read ca-file '{path}' : {e}"))?;
            pinned.extend(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
            roots.add_parsable_certificates(pinned.iter().cloned());
        }
        if roots.is_empty() {
            return Err(format!("ca-file '{path}' holds no certificate"));
        }
        let inner = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| e.to_string())?;
        let host = s.verify_host.clone().or(match &s.sni {
            Some(crate::config::model::SniRule::Fixed(n)) => Some(n.clone()),
            _ => None,
        });
        let name = host.map(ServerName::try_from).transpose().map_err(|e| format!("'verifyhost' : {e}"))?;
        Arc::new(ChainAndHost { inner, pinned, name })
    } else {
        Arc::new(AcceptAny(provider))
    };
    let mut c = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    c.alpn_protocols = s.alpn.iter().map(|a| a.as_bytes().to_vec()).collect();
    c.enable_sni = s.sni.is_some();
    Ok(Arc::new(c))
}

/// Where distributions keep the system's roots.
const SYSTEM_CA: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
