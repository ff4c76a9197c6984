// An authorization server for tests: the certified oidc-provider over TLS on loopback, with its own
// development pages for login and consent (any login, any password).
//
// Usage: node server.mjs '{"cert":PEM,"key":PEM,"accessTokenSeconds":N}'. It prints one line of JSON, {"issuer":…},
// when it serves, and ends when its standard input does.
import https from 'node:https';
import { Provider } from 'oidc-provider';

const options = JSON.parse(process.argv[2]);
const redirect_uris = ['http://127.0.0.1/callback', 'http://localhost/callback'];
const code = {
  application_type: 'native', redirect_uris, response_types: ['code'],
  grant_types: ['authorization_code', 'refresh_token'],
};

// The secrets have the characters that a client must form-encode before base64.
const clients = [
  { ...code, client_id: 'public', token_endpoint_auth_method: 'none' },
  { ...code, client_id: 'post:client', client_secret: 'post+secret/%41 &=:', token_endpoint_auth_method: 'client_secret_post' },
  { ...code, client_id: 'basic:client', client_secret: 'basic+secret/%41 &=:', token_endpoint_auth_method: 'client_secret_basic' },
  {
    client_id: 'device', token_endpoint_auth_method: 'none', application_type: 'native', redirect_uris: [],
    response_types: [], grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
  },
  {
    client_id: 'machine', client_secret: 'machine+secret', token_endpoint_auth_method: 'client_secret_basic',
    redirect_uris: [], response_types: [], grant_types: ['client_credentials'],
  },
];

const server = https.createServer({ cert: options.cert, key: options.key });
server.listen(0, '127.0.0.1', () => {
  const issuer = `https://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients,
    clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post'],
    scopes: ['openid', 'offline_access', 'email', 'profile', 'api:read', 'api:write'],
    claims: { openid: ['sub'], email: ['email'], profile: ['name'] },
    conformIdTokenClaims: false, // e-mail and name in the ID token
    findAccount: (ctx, id) => ({
      accountId: id, claims: () => ({ sub: id, email: `${id}@example.test`, name: id }),
    }),
    features: {
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      registration: { enabled: true },
      revocation: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource) => ({
          scope: 'api:read api:write', audience: resource, accessTokenFormat: 'opaque',
        }),
      },
    },
    issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: true, // a used refresh token that comes again revokes the whole grant
    ttl: {
      AccessToken: options.accessTokenSeconds ?? 3600, ClientCredentials: options.accessTokenSeconds ?? 3600,
      DeviceCode: 600, IdToken: 3600, Interaction: 600, Grant: 86400, Session: 86400, RefreshToken: 86400,
      AuthorizationCode: 60,
    },
    cookies: { keys: ['a key for tests only'] },
    jwks: undefined, // the library's development keys
  });
  server.on('request', provider.callback());
  process.stdout.write(`${JSON.stringify({ issuer })}\n`);
});

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
