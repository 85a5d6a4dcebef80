// What the build of a plugin does for Lambda handlers: it finds them by their setting, and gives AWS's SDK a stand-in.

import { readdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

/** Endings of a handler's file, best first: a source before what a compiler made of it. */
const ENDINGS = [".ts", ".mts", ".cts", ".js", ".mjs", ".cjs"];

const ROUTES = `"lambda" is "FILE.FUNCTION", such as "index.handler", or an object with one for each route: { "$connect": "connect.handler", … }`;

/** The entry module, the esbuild plugins and the handlers' places for the settings `lockgate.lambda` and `lockgate.lambdaAuthorizer` of package.json. */
export async function lambda({ project, setting, authorizer, connectionTable }) {
  if (connectionTable !== undefined && (typeof connectionTable !== "string" || connectionTable === "")) {
    throw new Error(`lockgate.connectionTable in package.json has to be the name of the table's key, such as "connectionId"`);
  }
  const imports = [];
  const found = [];
  const handler = (written, key = "lambda") => {
    const { file, path } = locate(project, written);
    found.push({ file, path, written, key });
    imports.push(`import * as module${imports.length} from ${JSON.stringify(file)};`);
    return `handlerIn(module${imports.length - 1}, ${JSON.stringify(path)}, ${JSON.stringify(written)})`;
  };
  const decides = authorizer === undefined ? undefined : handler(authorizer, "lambdaAuthorizer");
  const handlers = setting === undefined ? [] : typeof setting === "string" ? handler(setting) : routes(setting).map(([route, written]) => `${JSON.stringify(route)}: ${handler(written)}`);
  const contents = [
    `import { adapt, handlerIn } from ${JSON.stringify(join(here, "adapter.js"))};`,
    ...(connectionTable ? [`import { setTableKey } from ${JSON.stringify(join(here, "aws/key.js"))};`] : []),
    `import * as streams from ${JSON.stringify(join(here, "node/stream_web.js"))};`,
    ...imports,
    // Middleware asks whether an answer is one, of the classes by their global names.
    `for (const name of Object.keys(streams)) globalThis[name] ??= streams[name];`,
    ...(connectionTable ? [`setTableKey(${JSON.stringify(connectionTable)});`] : []),
    `export default adapt(${typeof handlers === "string" ? handlers : `{ ${handlers.join(", ")} }`}${decides === undefined ? "" : `, ${decides}`});`,
  ];
  return { contents: contents.join("\n"), resolveDir: project, plugins: [sdkPlugin(connectionTable !== undefined)], handlers: found };
}

function routes(setting) {
  if (setting === null || typeof setting !== "object" || Array.isArray(setting) || Object.keys(setting).length === 0) {
    throw new Error(`lockgate.lambda in package.json is not understood: ${ROUTES}`);
  }
  return Object.entries(setting);
}

/** The file and the exported name of a setting such as `src/index.handler`. */
function locate(project, setting) {
  const [, module, path] = (typeof setting === "string" && /^((?:.*\/)?[^/.]+)\.([^/]+)$/.exec(setting)) || [];
  if (module === undefined) throw new Error(`lockgate.lambda in package.json says ${JSON.stringify(setting)}: ${ROUTES}`);
  const folder = join(project, dirname(module));
  const found = filesIn(folder);
  const ending = ENDINGS.find((ending) => found.includes(basename(module) + ending));
  if (ending === undefined) {
    throw new Error(`lockgate.lambda in package.json says "${setting}", and there is no file ${module} in ${project} that ends in ${ENDINGS.join(", ")}`);
  }
  return { file: join(folder, basename(module) + ending), path };
}

function filesIn(folder) {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Resolves the imports of both generations of AWS's SDK, and of what common middleware reads of node:http. */
function sdkPlugin(hasTable) {
  const standIns = {
    "@aws-sdk/client-apigatewaymanagementapi": "client-apigatewaymanagementapi.js",
    ...(hasTable && { "@aws-sdk/client-dynamodb": "client-dynamodb.js", "@aws-sdk/lib-dynamodb": "lib-dynamodb.js" }),
  };
  const dynamodb = hasTable ? `DynamoDB: require("./v2-dynamodb.js").DynamoDB` : "";
  const sdk = `require("./v2.js").sdk({ ${dynamodb} })`;
  const secondGeneration = {
    "aws-sdk": sdk,
    "aws-sdk/clients/all": sdk,
    "aws-sdk/global": sdk,
    "aws-sdk/clients/apigatewaymanagementapi": `require("./v2.js").ApiGatewayManagementApi`,
    ...(hasTable && { "aws-sdk/clients/dynamodb": `require("./v2-dynamodb.js").DynamoDB` }),
  };
  return {
    name: "aws-sdk",
    setup(build) {
      build.onResolve({ filter: /^(node:)?(http|stream\/web)$/ }, ({ path }) => ({ path: join(here, "node", `${path.replace("node:", "").replace("/", "_")}.js`) }));
      build.onResolve({ filter: /^@aws-sdk\/|^aws-sdk($|\/)/ }, ({ path }) => {
        const name = path.replace(/\.js$/, "");
        if (standIns[name]) return { path: join(here, "aws", standIns[name]) };
        if (secondGeneration[name]) return { path: name, namespace: "lockgate-aws" };
        // Pure JavaScript, as far as they are found: types, unmarshalling, formats.
        if (/^@aws-sdk\/(types|util-)/.test(name)) return undefined;
        return { errors: [{ text: refusal(name, hasTable) }] };
      });
      build.onLoad({ filter: /.*/, namespace: "lockgate-aws" }, ({ path }) => ({
        // CommonJS, so that `import AWS`, `import * as AWS` and `require` all get it.
        contents: `module.exports = ${secondGeneration[path]};`,
        resolveDir: join(here, "aws"),
      }));
    },
  };
}

function refusal(name, hasTable) {
  const reason = `"${name}" needs the network, which a plugin has not.`;
  if (/dynamodb/.test(name) && !hasTable) {
    return `${reason} If its table only says who is connected, add "connectionTable": "connectionId", the name of the table's key, beside "lambda" in package.json: the gateway then keeps its rows, each as long as its connection. What else belongs to a connection can be kept in attributes and groups: see docs/lambda.md`;
  }
  return `${reason} Here are "@aws-sdk/client-apigatewaymanagementapi" and "aws-sdk" with ApiGatewayManagementApi, and DynamoDB for tables of connections ("connectionTable" in package.json). Remove the import; what belongs to a connection can be kept in attributes and groups: see docs/lambda.md`;
}
