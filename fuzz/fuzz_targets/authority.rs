//! Fuzz target of authorities: the first byte sets how ports and dots count, the rest is an
//! authority as a client sends it. Whatever is accepted is one host, in one form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::authorizer::{HostsConfig, PortMatching, TrailingDot, read_host};

const PORTS: [PortMatching; 3] = [PortMatching::Strict, PortMatching::Ignore, PortMatching::Match];

fuzz_target!(|bytes: &[u8]| {
    let Some((flags, authority)) = bytes.split_first() else { return };
    let Ok(authority) = str::from_utf8(authority) else { return };
    let port = PORTS[usize::from(flags >> 1) % PORTS.len()];
    let trailing_dot = if flags & 1 == 1 { TrailingDot::Ignore } else { TrailingDot::Refuse };
    let config = HostsConfig { port, trailing_dot };
    let Ok(host) = read_host(authority, config) else { return };

    let name = host.name();
    assert!(!name.is_empty() && !name.ends_with('.') && name.is_ascii());
    assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase() || b"@%,/ ".contains(&byte)));
    let again = read_host(name, config).expect("a canonical name has a reading");
    assert_eq!((again.name(), again.matched(), again.as_sent()), (name, name, None));
    assert!(!again.has_trailing_dot());

    // However its letters are written, it is the same host.
    let shouted = authority.to_ascii_uppercase();
    let again = read_host(&shouted, config).expect("case makes no difference");
    assert_eq!((again.name(), again.matched()), (name, host.matched()));
});
