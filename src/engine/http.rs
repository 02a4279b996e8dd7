//! How every HTTP client of this program begins: one TLS provider, nothing followed, unpacked or told by itself.
//!
//! Time limits, names and what a client may dial are for its user to add.

use reqwest::ClientBuilder;

/// No redirects, no referer, no unpacking: what comes is what was sent.
pub fn plain_client() -> ClientBuilder {
    // Fails only where another part of the program was first, with the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_gzip()
        .no_brotli()
        .no_deflate()
}
