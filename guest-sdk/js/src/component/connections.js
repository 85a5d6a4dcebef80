export { attribute, attributes, close, info, send, setAttribute } from "lockgate:plugin/connections@0.1.0";
