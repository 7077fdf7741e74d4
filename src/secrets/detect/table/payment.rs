//! Payment and commerce.

use crate::secrets::detect::row::Row;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row::at("stripe-key", "secret or restricted key of Stripe, and keys of services that write theirs the same way", 8,
        &["sk_live_", "rk_live_", "sk_test_", "rk_test_", "sk_prod_"], r"[sr]k_(?:live|test|prod)_[A-Za-z0-9]{16,247}").entropy(30),
    Row::at("stripe-webhook", "signing secret of a webhook", 6, &["whsec_"], r"whsec_[A-Za-z0-9+/]{24,64}={0,2}"),
    Row::at("paypal-braintree", "access token of PayPal or Braintree", 13, &["access_token$"], r"access_token\$(?:production|sandbox)\$[a-z0-9]{16}\$[a-f0-9]{32}"),
    Row::near("paypal-secret", "client secret of PayPal", &["paypal"], secret_named!("paypal", "E[A-Za-z0-9_-]{79}")),
    Row::at("square-token", "access token or secret of Square", 7, &["sq0atp-", "sq0csp-", "sq0idp-"], r"sq0(?:atp|csp)-[A-Za-z0-9_-]{22,43}"),
    Row::at("square-token-long", "access token of Square", 4, &["EAAAE", "EAAAl"], r"EAAA[El][A-Za-z0-9_-]{59}").entropy(38),
    Row::at("shopify-token", "token or shared secret of Shopify", 6, &["shpat_", "shpss_", "shpca_", "shppa_", "shptka_"], r"shp(?:at|ss|ca|pa|tka)_[a-fA-F0-9]{32}"),
    Row::at("razorpay-key", "key of Razorpay", 9, &["rzp_live_", "rzp_test_"], r"rzp_(?:live|test)_[A-Za-z0-9]{14}").entropy(28),
    Row::at("plaid-token", "access token of Plaid", 7, &["access-production-", "access-sandbox-", "access-development-"],
        r"access-(?:production|sandbox|development)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    Row::near("plaid-secret", "secret of Plaid", &["plaid"], secret_named!("plaid", "[a-f0-9]{30}")),
    Row::at("flutterwave-key", "secret key of Flutterwave", 8, &["FLWSECK"], r"FLWSECK(?:_TEST|_LIVE)?-[A-Za-z0-9]{12,40}(?:-X)?"),
    Row::at("paddle-key", "API key of Paddle", 4, &["pdl_live_apikey_", "pdl_sdbx_apikey_"], r"pdl_(?:live|sdbx)_apikey_[a-z0-9]{26}_[A-Za-z0-9]{22}_[A-Za-z0-9]{3}"),
    Row::at("mercadopago-token", "access token of Mercado Pago", 8, &["APP_USR-"], r"APP_USR-[0-9]{10,18}-[0-9]{6}-[a-f0-9]{32}-[0-9]{6,12}"),
    Row::at("adyen-key", "API key of Adyen", 4, &["AQEyhmfx", "AQErhmfx", "AQEohmfx", "AQEthmfx"], r"AQE[a-z]hmfx[A-Za-z0-9+/=_.-]{80,400}"),
    Row::at("easypost-key", "API key of EasyPost", 4, &["EZAK", "EZTK"], r"EZ[AT]K[A-Za-z0-9]{54}"),
    Row::at("shippo-token", "token of Shippo", 12, &["shippo_live_", "shippo_test_"], r"shippo_(?:live|test)_[a-fA-F0-9]{40}"),
    Row::at("duffel-token", "token of Duffel", 12, &["duffel_live_", "duffel_test_"], r"duffel_(?:live|test)_[A-Za-z0-9_=-]{43}"),
    Row::near("lob-key", "API key of Lob", &["lob_"], named!("lob_", "(?:live|test)_[a-f0-9]{35}")),
    Row::near("gocardless-token", "token of GoCardless", &["gocardless"], named!("gocardless", "(?:live|sandbox)_[A-Za-z0-9_=-]{40}")),
    Row::near("coinbase-key", "key of Coinbase", &["coinbase"], secret_named!("coinbase", "[A-Za-z0-9_-]{64}|[A-Za-z0-9]{32}")).entropy(38),
    Row::near("binance-key", "key or secret of Binance", &["binance"], secret_named!("binance", "[A-Za-z0-9]{64}")).entropy(40),
    Row::near("kraken-key", "key of Kraken", &["kraken"], secret_named!("kraken", "[A-Za-z0-9+/=]{80,90}")).entropy(40),
    Row::near("ethereum-key", "private key of an Ethereum account", &["private_key", "privatekey", "deployer_key", "mnemonic_key"],
        named!("private_?key|deployer_key", "0x[0-9a-fA-F]{64}")),
    Row::near("infura-alchemy", "project key in an address of Infura or Alchemy", &["infura.io/v3/", "alchemy.com/v2/", "alchemyapi.io/v2/"],
        r"(?:infura\.io/v3/|alchemy(?:api)?\.(?:com|io)/v2/)([A-Za-z0-9_-]{32})(?:[^A-Za-z0-9_-]|$)"),
];
