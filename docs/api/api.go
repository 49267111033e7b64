// Package api carries the description of the HTTP API and the program that shows it in a browser.
//
// It is data, not a server: app/httpapi serves it. swagger.yaml is written by hand and is the origin of all else; swagger.json
// and internal/generated/api_models are generated from it and never edited. Both forms always say the same.
package api

import _ "embed"

//go:generate go run ../../internal/swaggerjson/generate swagger.yaml swagger.json
//go:generate go tool oapi-codegen -config oapi-codegen.yaml swagger.yaml

var (
	//go:embed swagger.yaml
	specYAML string
	//go:embed swagger.json
	specJSON string
	//go:embed rapidoc/rapidoc-min.js
	rapiDoc string
	//go:embed rapidoc/LICENSE.txt
	rapiDocLicense string
	//go:embed rapidoc/rapidoc-min.js.LICENSE.txt
	rapiDocParts string
)

// YAML returns the OpenAPI document as it was written.
func YAML() string { return specYAML }

// JSON returns the OpenAPI document in its generated JSON form.
func JSON() string { return specJSON }

// RapiDoc returns the script of RapiDoc 9.3.8, the element <rapi-doc> that renders an OpenAPI document.
func RapiDoc() string { return rapiDoc }

// RapiDocLicense returns the licence of RapiDoc and the notices of what it contains, which travel with every copy of the script.
func RapiDocLicense() string { return rapiDocLicense + "\n" + rapiDocParts }
