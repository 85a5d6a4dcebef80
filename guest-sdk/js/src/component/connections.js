export { attribute, attributes, close, info, send, sendDatagram, setAttribute } from "lockgate:plugin/connections@0.1.0";
