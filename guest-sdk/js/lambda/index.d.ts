import type { define } from "../index.js";

/** A handler as AWS Lambda calls it: it answers by a promise, by the callback or by the context. */
export type LambdaHandler = (event: any, context: any, callback: any) => unknown;

/**
 * Makes a plugin of Lambda handlers: of one for every route, or of one for each route key; and of a Lambda authorizer of the
 * type REQUEST. The build does so by itself where package.json has `"lockgate": { "lambda": …, "lambdaAuthorizer": … }`.
 */
export function adapt(handlers: LambdaHandler | Record<string, LambdaHandler>, authorizer?: LambdaHandler): ReturnType<typeof define>;
