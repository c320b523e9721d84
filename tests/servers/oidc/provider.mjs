// An OpenID provider on free loopback ports, over http and https, and an API that takes its tokens.
//
// OIDC_SETTINGS is a JSON document: clients, accessTokenSeconds, tls {cert, key, ca}.

import http from 'node:http';
import https from 'node:https';

import Provider from 'oidc-provider';

const settings = JSON.parse(process.env.OIDC_SETTINGS);
const plain = http.createServer();
const secure = https.createServer({ ...settings.tls, requestCert: true, rejectUnauthorized: false });

const listen = (server) => new Promise((resolve) => {
  server.listen(0, '127.0.0.1', () => resolve(`127.0.0.1:${server.address().port}`));
});

const issuer = `http://${await listen(plain)}`;
const secureUrl = `https://${await listen(secure)}`;

const provider = new Provider(issuer, {
  clients: settings.clients,
  cookies: { keys: ['for tests only'] },
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth',
    'none',
  ],
  discovery: { mtls_endpoint_aliases: { token_endpoint: `${secureUrl}/token` } },
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: true },
    dPoP: { enabled: true },
    mTLS: {
      enabled: true,
      tlsClientAuth: true,
      getCertificate: (ctx) => {
        const found = ctx.socket.getPeerX509Certificate?.();
        return found && found.toString();
      },
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) => (
        property === 'tls_client_auth_san_dns'
        && ctx.socket.getPeerX509Certificate().subjectAltName === `DNS:${expected}`
      ),
    },
  },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  scopes: ['openid', 'offline_access'],
  ttl: {
    AccessToken: settings.accessTokenSeconds,
    ClientCredentials: settings.accessTokenSeconds,
    RefreshToken: 600,
    DeviceCode: 60,
    Grant: 600,
    IdToken: 60,
    Interaction: 60,
    Session: 600,
  },
});

async function api(request, response) {
  const [scheme, value] = (request.headers.authorization ?? '').split(' ');
  const token = scheme === 'Bearer' && (
    await provider.AccessToken.find(value) ?? await provider.ClientCredentials.find(value)
  );
  response.writeHead(token ? 200 : 401, { 'content-type': 'application/json' });
  response.end(JSON.stringify(token ? { client: token.clientId } : { error: 'invalid_token' }));
}

const callback = provider.callback();
const answer = (request, response) => (
  request.url.startsWith('/api/') ? api(request, response) : callback(request, response)
);
plain.on('request', answer);
secure.on('request', answer);

console.log(`listening on ${issuer} ${secureUrl}`);
