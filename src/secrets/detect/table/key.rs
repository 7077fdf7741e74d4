//! Private keys in text.

use crate::secrets::detect::row::{Row, Verify};

/// The longest key in text: an RSA key of 16,384 bits takes 12 KiB.
const KEY: usize = 24 * 1024;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row::near("private-key", "private key in PEM: PKCS#1, PKCS#8, SEC 1, OpenSSH (RFC 7468)", &["-----BEGIN "],
        r#"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----((?:[\s"'+,#*/;>|\\]|\\[nrt]|[A-Za-z0-9+/=:,. -])+?)(?:-----END |-----BEGIN |$)"#).window(KEY).entropy(35),
    Row::near("pgp-private-key", "private key of OpenPGP (RFC 9580)", &["-----BEGIN PGP"],
        r"-----BEGIN PGP PRIVATE KEY BLOCK-----([\sA-Za-z0-9+/=:.,()<>@\\-]+?)(?:-----END |$)").window(4 * KEY).entropy(35),
    Row::near("ssh2-private-key", "private key of SSH Communications", &["BEGIN SSH2 ENC"],
        r"BEGIN SSH2 ENCRYPTED PRIVATE KEY ----([^-]+)").window(KEY).entropy(35),
    Row::near("putty-key", "private key of PuTTY", &["PuTTY-User-Key-File"],
        r"PuTTY-User-Key-File-[123]: [\s\S]{0,4000}?Private-Lines: [0-9]{1,3}\s{1,2}([A-Za-z0-9+/=\s]+?)(?:Private-(?:MAC|Hash)|$)").window(KEY).entropy(35).whole_file(),
    Row::at("age-key", "private key of age", 15, &["AGE-SECRET-KEY-1"], r"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}").keep(0).verify(Verify::Bech32),
    Row::at("age-plugin-key", "identity of a plugin of age", 0, &["AGE-PLUGIN-"], r"AGE-PLUGIN-[A-Z0-9]{2,20}-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{20,300}").verify(Verify::Bech32),
    Row::near("minisign-key", "private key of minisign or signify", &["secret key\n", "secret key\r\n"], r"secret key\r?\n([A-Za-z0-9+/=]{100,300})"),
    Row::near("wireguard-key", "private or preshared key of WireGuard", &["PrivateKey", "PresharedKey"],
        r"(?i:privatekey|presharedkey)\s{0,3}=\s{0,3}([A-Za-z0-9+/]{43}=)").verify(Verify::Base64(32)).entropy(38),
    Row::near("jwk", "private key in JSON (RFC 7517)", &["\"d\""], r#""d"\s{0,4}:\s{0,4}"([A-Za-z0-9_-]{42,700})""#).window(1000).entropy(40),
    Row::near("openvpn-static-key", "static key of OpenVPN", &["OpenVPN Static key"], r"OpenVPN Static key V1-----\s([0-9a-f\s]{500,600})-----END").window(1200),
    Row::near("certificate-store-key", "key in the configuration of a cluster", &["client-key-data", "clientKeyData"],
        r#"(?i:client-?key-?data)["'\\]{0,3}\s{0,3}:\s{0,3}["'\\]{0,3}([A-Za-z0-9+/]{100,20000}={0,2})"#).window(KEY),
    Row::at("base64-private-key", "private key in PEM, once more in base64", 0, &["LS0tLS1CRUdJTi"],
        r"LS0tLS1CRUdJTi(?:BQUklWQVRFI|BSU0EgUFJJVkFURS|BFQyBQUklWQVRFI|BPUEVOU1NIIFBSSVZBVEUg|BFTkNSWVBURUQgUFJJVkFURS|BQR1AgUFJJVkFURS)[A-Za-z0-9+/=\\\s]{100,24000}").window(KEY),
];
