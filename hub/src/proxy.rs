//! Which proxy a request goes through, by the variables that curl and Python's `requests` read.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ureq::ProxyProtocol;
use ureq::http::Uri;

use super::HubError;

/// The proxies of `HTTPS_PROXY`, `HTTP_PROXY` and `ALL_PROXY`, and the hosts of `NO_PROXY`.
///
/// This machine is never reached through a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    /// Hosts that are reached directly.
    direct: Vec<Direct>,
}

/// A proxy, or why it is none: a variable that cannot be used matters to requests alone.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Proxy {
    Usable(ureq::Proxy),
    Unusable { setting: String, reason: &'static str },
}

/// Hosts that are reached without a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Direct {
    /// `*`
    All,
    /// A domain, its subdomains, and a port where one is given.
    Domain { name: String, port: Option<u16> },
    /// A network such as `10.0.0.0/8`, or one address.
    Network { address: IpAddr, bits: u8 },
}

impl Proxies {
    /// Reads the variables, in small letters first: `https_proxy` for https, `http_proxy` for http, `all_proxy` for both, and
    /// `no_proxy`.
    #[must_use]
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let value = |name: &str| {
            [name.to_owned(), name.to_ascii_uppercase()].into_iter().find_map(|name| {
                let value = lookup(&name)?.into_string().ok()?;
                let value = value.trim().to_owned();
                (!value.is_empty()).then_some((name, value))
            })
        };
        let proxy = |name: &str| value(name).map(|(name, address)| parse(name, &address));
        let all = proxy("all_proxy");
        let direct = value("no_proxy").map(|(_, list)| list).unwrap_or_default();
        Self {
            http: proxy("http_proxy").or_else(|| all.clone()),
            https: proxy("https_proxy").or(all),
            direct: direct.split([',', ' ', '\t', ';']).filter_map(Direct::parse).collect(),
        }
    }

    /// The proxy that a request to `target` goes through.
    ///
    /// # Errors
    /// [`HubError::BadSetting`] for a proxy that is no address, or speaks SOCKS.
    pub fn of(&self, target: &Uri) -> Result<Option<&ureq::Proxy>, HubError> {
        match self.chosen(target) {
            None => Ok(None),
            Some(Proxy::Usable(proxy)) => Ok(Some(proxy)),
            Some(Proxy::Unusable { setting, reason }) => {
                Err(HubError::BadSetting { setting: setting.clone(), reason: (*reason).to_owned() })
            }
        }
    }

    fn chosen(&self, target: &Uri) -> Option<&Proxy> {
        let is_https = target.scheme_str() == Some("https");
        let proxy = if is_https { self.https.as_ref() } else { self.http.as_ref() }?;
        let host = host(target)?;
        let port = target.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let is_direct = is_this_machine(target) || self.direct.iter().any(|direct| direct.covers(&host, port));
        (!is_direct).then_some(proxy)
    }

    /// [`Self::of`] for an error: ` through the proxy …`, without its password; nothing where there is none.
    #[must_use]
    pub fn named(&self, target: &Uri) -> String {
        match self.chosen(target) {
            Some(Proxy::Usable(proxy)) => format!(" through the proxy `{}`", address(proxy)),
            _ => String::new(),
        }
    }
}

/// Address of a proxy without user and password.
#[must_use]
pub fn address(proxy: &ureq::Proxy) -> String {
    format!("{}://{}:{}", proxy.uri().scheme_str().unwrap_or("http"), proxy.host(), proxy.port())
}

/// Whether `target` is this machine: `localhost`, 127.0.0.0/8 or `::1`.
#[must_use]
pub fn is_this_machine(target: &Uri) -> bool {
    let Some(host) = host(target) else { return false };
    match host.parse::<IpAddr>() {
        Ok(address) => plain(address).is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// The host in small letters, without brackets and the dot at its end.
fn host(target: &Uri) -> Option<String> {
    let host = target.host()?.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    Some(host.to_ascii_lowercase())
}

fn parse(setting: String, address: &str) -> Proxy {
    match ureq::Proxy::new(address) {
        Ok(proxy) if matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) => Proxy::Usable(proxy),
        Ok(_) => {
            Proxy::Unusable { setting, reason: "SOCKS is not supported, expected a proxy such as `http://proxy:3128`" }
        }
        Err(_) => Proxy::Unusable { setting, reason: "expected the address of a proxy, such as `http://proxy:3128`" },
    }
}

/// An IPv4 address in the form of an IPv6 one is the former.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

impl Direct {
    /// An entry of `no_proxy`: `*`, `example.org`, `.example.org`, `*.example.org`, `host:port`, `10.0.0.0/8`, `::1`.
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_ascii_lowercase();
        if entry == "*" {
            return Some(Self::All);
        }
        let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok().map(plain);
        if let Some(address) = bare(&entry) {
            return Some(Self::Network { address, bits: width(address) });
        }
        if let Some((network, bits)) = entry.split_once('/')
            && let (Some(address), Ok(bits)) = (bare(network), bits.parse::<u8>())
        {
            return (bits <= width(address)).then_some(Self::Network { address, bits });
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => (name, port.parse().ok()),
            _ => (entry.as_str(), None),
        };
        let name = name.trim_start_matches('*').trim_matches('.');
        (!name.is_empty()).then(|| Self::Domain { name: name.to_owned(), port })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Domain { name, port: only } => {
                let is_within =
                    host.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                is_within && only.is_none_or(|only| only == port)
            }
            Self::Network { address, bits } => match (host.parse().map(plain), address) {
                (Ok(IpAddr::V4(host)), IpAddr::V4(network)) => {
                    let mask = u32::MAX.checked_shl(32 - u32::from(*bits)).unwrap_or(0);
                    Ipv4Addr::to_bits(host) & mask == Ipv4Addr::to_bits(*network) & mask
                }
                (Ok(IpAddr::V6(host)), IpAddr::V6(network)) => {
                    let mask = u128::MAX.checked_shl(128 - u32::from(*bits)).unwrap_or(0);
                    Ipv6Addr::to_bits(host) & mask == Ipv6Addr::to_bits(*network) & mask
                }
                _ => false,
            },
        }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::from_lookup(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    fn way(variables: &[(&str, &str)], target: &str) -> Option<String> {
        proxies(variables).of(&target.parse().unwrap()).unwrap().map(address)
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let both = [("http_proxy", "http://a:1"), ("HTTPS_PROXY", "b:2"), ("ALL_PROXY", "http://c:3")];
        assert_eq!(way(&both, "http://x.org/").unwrap(), "http://a:1");
        assert_eq!(way(&both, "https://x.org/").unwrap(), "http://b:2");
        assert_eq!(way(&both[2..], "https://x.org/").unwrap(), "http://c:3");
        assert_eq!(way(&both[..1], "https://x.org/"), None);
        assert_eq!(way(&[("http_proxy", " ")], "http://x.org/"), None);
        let small = [("HTTP_PROXY", "http://big:1"), ("http_proxy", "http://small:1")];
        assert_eq!(way(&small, "http://x.org/").unwrap(), "http://small:1");
    }

    #[test]
    fn no_proxy_takes_blanks_dots_ports_and_networks() {
        let list =
            "127.0.0.1 , .example.org,*.corp, gpu:8000,  10.0.0.0/8, fd00::/8,192.168.1.7, 300.0.0.0/8, 1.2.3.4/33";
        let variables = [("all_proxy", "http://p:1"), ("no_proxy", list)];
        let is_direct = |target: &str| way(&variables, target).is_none();
        for target in [
            "http://example.org/",
            "https://a.b.example.org/",
            "http://x.corp/",
            "http://gpu:8000/v1",
            "http://10.255.1.2/",
            "https://[fd12::1]/",
            "http://[::ffff:10.1.2.3]/",
            "http://192.168.1.7:80/",
            "http://EXAMPLE.ORG./",
        ] {
            assert!(is_direct(target), "{target}");
        }
        for target in [
            "http://badexample.org/",
            "http://gpu:8001/",
            "http://11.0.0.1/",
            "https://[fe80::1]/",
            "http://192.168.1.8/",
            "http://1.2.3.4/",
        ] {
            assert!(!is_direct(target), "{target}");
        }
        assert!(way(&[("all_proxy", "http://p:1"), ("NO_PROXY", "*")], "http://x.org/").is_none());
        assert!(way(&[("all_proxy", "http://p:1"), ("no_proxy", "0.0.0.0/0")], "http://9.9.9.9/").is_none());
    }

    #[test]
    fn this_machine_is_never_reached_through_a_proxy() {
        let variables = [("http_proxy", "http://p:1"), ("https_proxy", "http://p:1")];
        for host in ["localhost", "LOCALHOST", "api.localhost", "127.0.0.1", "127.8.9.1", "[::1]", "[::ffff:127.0.0.1]"]
        {
            assert!(way(&variables, &format!("http://{host}:8080/v1")).is_none(), "{host}");
        }
        assert!(way(&variables, "http://localhost.example.org/").is_some());
        assert!(way(&variables, "http://128.0.0.1/").is_some());
    }

    #[test]
    fn a_proxy_is_named_without_its_password() {
        let proxies = proxies(&[("https_proxy", "http://me:geheim@proxy.example:3128")]);
        let named = proxies.named(&"https://x.org/".parse().unwrap());
        assert_eq!(named, " through the proxy `http://proxy.example:3128`");
        assert_eq!(proxies.named(&"http://x.org/".parse().unwrap()), "");
        for bad in ["socks5://me:geheim@x:1", "http://", "ftp://geheim@x"] {
            let proxies = self::proxies(&[("all_proxy", bad)]);
            assert_eq!(proxies.of(&"http://localhost/".parse().unwrap()).unwrap(), None, "{bad}");
            let error = proxies.of(&"http://x.org/".parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains("all_proxy") && !error.contains("geheim"), "{error}");
        }
    }
}
