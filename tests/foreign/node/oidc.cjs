// The npm package `oidc-provider` as the issuer of tokens for a gateway, and `ws` as the client that presents them.
// Prints the issuer, reads the gateway's stage (ws://…) from standard input, and prints a line for each thing that holds.
"use strict";

const assert = require("node:assert/strict");
const { generateKeyPairSync } = require("node:crypto");
const { once } = require("node:events");
const http = require("node:http");
const readline = require("node:readline");
const { pathToFileURL } = require("node:url");
const { WebSocket } = require("ws");

const AUDIENCE = "https://chat.example.com";

/** A private key as a JWK. */
function signingKey(kid, algorithm) {
  const { privateKey } =
    algorithm === "ES256"
      ? generateKeyPairSync("ec", { namedCurve: "P-256" })
      : generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), kid, use: "sig", alg: algorithm };
}

/** A provider that signs its access tokens with the first of these keys. */
async function provider(issuer, keys, algorithm) {
  const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));
  return new Provider(issuer, {
    jwks: { keys },
    clients: [
      {
        client_id: "backend",
        client_secret: "0123456789abcdef0123456789abcdef",
        grant_types: ["client_credentials"],
        redirect_uris: [],
        response_types: [],
        id_token_signed_response_alg: algorithm,
      },
    ],
    scopes: ["openid", "join"],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => AUDIENCE,
        getResourceServerInfo: () => ({
          scope: "join",
          audience: AUDIENCE,
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: algorithm } },
        }),
      },
    },
  });
}

async function token(issuer, scope) {
  const answer = await fetch(`${issuer}/token`, {
    method: "POST",
    headers: { authorization: `Basic ${btoa("backend:0123456789abcdef0123456789abcdef")}` },
    body: new URLSearchParams({ grant_type: "client_credentials", resource: AUDIENCE, ...scope }),
  });
  const body = await answer.json();
  assert.equal(answer.status, 200, JSON.stringify(body));
  return body.access_token;
}

/** Connects with these subprotocols and headers: gives the socket, or the status of the refusal. */
function connect(url, protocols, headers) {
  const socket = new WebSocket(url, protocols, { headers });
  return new Promise((resolve) => {
    socket.once("open", () => resolve(socket));
    socket.once("unexpected-response", (_, answer) => resolve(answer.statusCode));
    socket.once("error", () => {});
  });
}

const bearer = (url, token) => connect(url, [], { authorization: `Bearer ${token}` });

async function main() {
  let current;
  const server = http.createServer((request, answer) => current(request, answer));
  await once(server.listen(0, "127.0.0.1"), "listening");
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const rotate = async (keys, algorithm) => {
    current = (await provider(issuer, keys, algorithm)).callback();
  };
  await rotate([signingKey("one", "ES256")], "ES256");
  console.log(issuer);
  const [url] = await once(readline.createInterface({ input: process.stdin }), "line");

  const first = await token(issuer, { scope: "join" });
  const byHeader = await bearer(url, first);
  byHeader.send("hello");
  assert.equal((await once(byHeader, "message"))[0].toString(), "hello");
  console.log("ok token in the header");

  const byProtocol = await connect(url, ["chat", "bearer", first]);
  assert.equal(byProtocol.protocol, "bearer");
  console.log("ok token as a subprotocol");

  assert.equal(await bearer(url, await token(issuer, {})), 403);
  assert.equal(await bearer(url, `${first}A`), 401);
  assert.equal(await connect(url), 401);
  console.log("ok refused without scope, signature, token");

  // Another key, another kind of key: it is seen within 30 seconds of the last look.
  await rotate([signingKey("two", "RS256")], "RS256");
  const second = await token(issuer, { scope: "join" });
  let socket = await bearer(url, second);
  while (socket === 401) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    socket = await bearer(url, second);
  }
  assert.equal(socket.readyState, WebSocket.OPEN);
  console.log("ok rotated key");
  assert.equal(await bearer(url, first), 401);
  console.log("ok withdrawn key");
  assert.equal(byHeader.readyState, WebSocket.OPEN);
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
