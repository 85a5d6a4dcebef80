//! What the management listener says of the gateway's health.

use crate::echo;

#[tokio::test]
async fn a_gateway_that_serves_is_healthy_and_ready() {
    let gateway = echo().await;
    assert_eq!(gateway.page("/healthz").await.0, 200);
    assert_eq!(gateway.page("/readyz").await.0, 200);
    assert_eq!(gateway.page("/").await.0, 404);
}

#[tokio::test]
async fn a_client_cannot_reach_them() {
    let gateway = echo().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(gateway.ws(path).refused().await.status, 403);
        assert_eq!(
            gateway.ws(path).without("Upgrade").refused().await.status,
            426
        );
    }
}
