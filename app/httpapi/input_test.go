package httpapi_test

import (
	"strings"
	"testing"

	"github.com/walpost/walpost/app/httpapi"
)

// Every body here was taken as a registration by the generated server alone, or ended in a text/plain answer.
func TestRegisterUserRefusesBodies(t *testing.T) {
	t.Parallel()
	const email, password = `"email":"ada@example.com"`, `"password":"this-sample-password"`
	server := serve(t, newStub(t, nil), httpapi.Config{})
	for name, tc := range map[string]struct{ body, want string }{
		"malformed":                        {`{"email":ada}`, "at byte 9: invalid character 'a' looking for beginning of value"},
		"cut off":                          {`{"email":"ada`, "at byte 13: the body ends within a value"},
		"a comma too many":                 {`{` + email + `,` + password + `,}`, "at byte 61: invalid character '}' looking for beginning of object key string"},
		"single quotes":                    {`{'email':'a'}`, `at byte 1: invalid character '\'' looking for beginning of object key string`},
		"empty":                            {``, "at byte 0: the body is empty"},
		"white space alone":                {" \r\n\t", "at byte 0: the body is empty"},
		"null":                             {`null`, "at byte 0: expected an object, got null"},
		"an array":                         {` []`, "at byte 1: expected an object, got an array"},
		"a string":                         {`"email"`, "at byte 0: expected an object, got a string"},
		"a number":                         {`-1`, "at byte 0: expected an object, got a number"},
		"a boolean":                        {`true`, "at byte 0: expected an object, got a boolean"},
		"an empty object":                  {`{}`, "at #/email: is missing"},
		"a member that is missing":         {`{` + email + `}`, "at #/password: is missing"},
		"an unknown member":                {`{` + email + `,` + password + `,"admin":true}`, "at #/admin, byte 61: unknown member"},
		"an unknown member of odd name":    {`{"a/b~c d":1,` + email + `,` + password + `}`, "at #/a~1b~0c%20d, byte 1: unknown member"},
		"an unknown member without a name": {`{` + email + `,` + password + `, "":1}`, "at #/, byte 62: unknown member"},
		"a repeated member":                {`{` + email + `,` + email + `,` + password + `}`, "at #/email, byte 27: repeated member"},
		"a member repeated by an escape":   {`{` + email + `,"\u0065mail":"b@example.com",` + password + `}`, "at #/email, byte 27: repeated member"},
		"a name in another case":           {`{"Email":"ada@example.com",` + password + `}`, "at #/Email, byte 1: unknown member; the name is written email"},
		"a number for a string":            {`{"email":5,` + password + `}`, "at #/email, byte 1: expected a string, got a number"},
		"null for a string":                {`{"email": null,` + password + `}`, "at #/email, byte 1: expected a string, got null"},
		"an object for a string":           {`{"email":{"a":1},` + password + `}`, "at #/email, byte 1: expected a string, got an object"},
		"a second object":                  {goodBody + goodBody, "at byte 61: something follows the value"},
		"a bracket too many":               {goodBody + "\n}", "at byte 62: something follows the value"},
		"a byte order mark":                {"\ufeff" + goodBody, "at byte 0: invalid character 'ï' looking for beginning of value"},
		"Latin-1":                          {"{" + email + ",\"password\":\"f\xfcnfzehn Zeichen\"}", "at byte 40: not UTF-8"},
		"half of a surrogate pair":         {`{` + email + `,"password":"\\\ud83dthis-sample-password"}`, "at byte 41: half of a surrogate pair"},
		"the other half":                   {`{` + email + `,"password":"\ude00this-sample-password"}`, "at byte 39: half of a surrogate pair"},
		"two first halves":                 {`{` + email + `,"password":"\ud83d\ud83dthis-sample-password"}`, "at byte 39: half of a surrogate pair"},
		"a control character in a string":  {"{\"email\":\"ada@example.com\r\n\"," + password + "}", `at byte 25: invalid character '\r' in string literal`},
		"nesting without end":              {strings.Repeat("[", 12_000), "at byte 10000: invalid character '[' exceeded max depth"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := problem(t, server.register(tc.body), 400, "invalid-body")
			if got := detail(p); got != tc.want {
				t.Errorf("POST %.80s = %q, want %q", tc.body, got, tc.want)
			}
			if p.Errors == nil || len(*p.Errors) == 0 {
				t.Errorf("POST %.80s has no errors list", tc.body)
			}
		})
	}
}

func TestRegisterUserTakesEveryWayToWriteGoodJSON(t *testing.T) {
	t.Parallel()
	server := serve(t, newStub(t, nil), httpapi.Config{})
	for name, body := range map[string]string{
		"white space around":       " \n" + goodBody + "\r\n\t",
		"members in another order": `{"password":"this-sample-password","email":"ada@example.com"}`,
		"names and text escaped":   `{"\u0065mail":"ada\u0040example.com","password":"this\u002dsample-password"}`,
		"a whole surrogate pair":   `{"email":"ada@example.com","password":"\ud83d\ude00this-sample-password"}`,
		"a replacement character":  `{"email":"ada@example.com","password":"\ufffd this-sample-password"}`,
		"a NUL in the password":    `{"email":"ada@example.com","password":"this-sample-password\u0000"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := server.register(body); got.status != 202 {
				t.Errorf("POST %.80s = %d %s, want 202", body, got.status, got.body)
			}
		})
	}
}

func TestRegisterUserRefusesFields(t *testing.T) {
	t.Parallel()
	server := serve(t, newStub(t, nil), httpapi.Config{})
	const good = "this-sample-password"
	long := strings.Repeat("l", 64) + "@" + strings.Repeat(strings.Repeat("d", 62)+".", 3) + "e"
	for name, tc := range map[string]struct{ email, password, want string }{
		"CR and LF in the address":       {`ada@example.com\r\nBcc: eve@example.com`, good, "email contains a control character"},
		"a NUL in the address":           {`ada\u0000@example.com`, good, "email contains a control character"},
		"an address of 255 characters":   {long, good, "email has 255 bytes, the most is 254"},
		"a domain outside ASCII":         {`ada@bücher.example`, good, "email contains a character outside ASCII, which is not supported yet; write an internationalised domain in its xn-- form"},
		"an empty address":               {``, good, "email is empty"},
		"an address that is none":        {`ada`, good, "email is not an address of the form name@domain"},
		"a short password":               {`ada@example.com`, "short", "password has 5 characters, the least is 15"},
		"a password of 2 kB":             {`ada@example.com`, strings.Repeat("p", 2048), "password has 2048 characters, the most is 128"},
		"a short password in many bytes": {`ada@example.com`, strings.Repeat("🐘", 14), "password has 14 characters, the least is 15"},
		"neither address nor password":   {``, ``, "email is empty; password has 0 characters, the least is 15"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := problem(t, server.register(`{"email":"`+tc.email+`","password":"`+tc.password+`"}`), 400, "invalid-fields")
			if got := detail(p); got != tc.want {
				t.Errorf("POST = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestRegisterUserRefusesMediaTypes(t *testing.T) {
	t.Parallel()
	server := serve(t, newStub(t, nil), httpapi.Config{})
	for name, header := range map[string][]string{
		"none":                  nil,
		"text":                  {"Content-Type", "text/plain"},
		"a form":                {"Content-Type", "application/x-www-form-urlencoded"},
		"another JSON":          {"Content-Type", "application/merge-patch+json"},
		"another character set": {"Content-Type", "application/json; charset=iso-8859-1"},
		"no media type at all":  {"Content-Type", ";;"},
		"two":                   {"Content-Type", "application/json", "Content-Type", "text/plain"},
		"compressed":            {"Content-Type", "application/json", "Content-Encoding", "gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := server.do("POST", "/api/v1/users", goodBody, header...)
			problem(t, got, 415, "unsupported-media-type")
			if got.header.Get("Accept") != "application/json" {
				t.Errorf("Accept = %q, want application/json", got.header.Get("Accept"))
			}
		})
	}
	for _, contentType := range []string{"application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"} {
		if got := server.do("POST", "/api/v1/users", goodBody, "Content-Type", contentType); got.status != 202 {
			t.Errorf("POST with %q = %d %s, want 202", contentType, got.status, got.body)
		}
	}
}

func TestRegisterUserRefusesLargeBodies(t *testing.T) {
	t.Parallel()
	server := serve(t, newStub(t, nil), httpapi.Config{})
	problem(t, server.register(goodBody+strings.Repeat(" ", 17_000)), 413, "body-too-large")
	if got := server.register(goodBody + strings.Repeat(" ", 16<<10-len(goodBody))); got.status != 202 {
		t.Errorf("POST of 16384 bytes = %d %s, want 202", got.status, got.body)
	}
	problem(t, server.register(goodBody+strings.Repeat(" ", 16<<10-len(goodBody)+1)), 413, "body-too-large")
}

// A body that is all faults must not be answered with as many.
func TestRegisterUserBoundsItsAnswer(t *testing.T) {
	t.Parallel()
	p := problem(t, serve(t, newStub(t, nil), httpapi.Config{}).register(`{`+strings.Repeat(`"":1,`, 3000)+`"a":1}`), 400, "invalid-body")
	if p.Errors == nil || len(*p.Errors) != 8 {
		t.Errorf("errors = %v, want 8", p.Errors)
	}
}

func TestPathsAndMethods(t *testing.T) {
	t.Parallel()
	server := serve(t, newStub(t, nil), httpapi.Config{})
	for name, tc := range map[string]struct {
		method, path string
		status       int
		slug, allow  string
	}{
		"a path that is unknown":       {"GET", "/nothing/here", 404, "unknown-path", ""},
		"the root":                     {"GET", "/", 404, "unknown-path", ""},
		"a path that is longer":        {"POST", "/api/v1/users/7", 404, "unknown-path", ""},
		"a path with a slash behind":   {"POST", "/api/v1/users/", 404, "unknown-path", ""},
		"a path with two slashes":      {"POST", "//api/v1/users", 404, "unknown-path", ""},
		"a path with dots":             {"GET", "/docs/../openapi.json", 404, "unknown-path", ""},
		"GET where POST is meant":      {"GET", "/api/v1/users", 405, "method-not-allowed", "POST"},
		"DELETE where POST is meant":   {"DELETE", "/api/v1/users", 405, "method-not-allowed", "POST"},
		"OPTIONS, there is no CORS":    {"OPTIONS", "/api/v1/users", 405, "method-not-allowed", "POST"},
		"a method that does not exist": {"BREW", "/api/v1/users", 405, "method-not-allowed", "POST"},
		"POST where GET is meant":      {"POST", "/api/v1/notifications/0d2e8a9c-3f1b-4c55-9a0e-6f6f1f4d9a31", 405, "method-not-allowed", "GET, HEAD"},
		"POST to the page":             {"POST", "/docs", 405, "method-not-allowed", "GET, HEAD"},
		"an id that is no UUID":        {"GET", "/api/v1/notifications/4711", 400, "invalid-parameter", ""},
		"an id with an attack":         {"GET", "/api/v1/notifications/%3Cscript%3E'%3B--", 400, "invalid-parameter", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := server.do(tc.method, tc.path, "")
			p := problem(t, got, tc.status, tc.slug)
			if allow := got.header.Get("Allow"); allow != tc.allow {
				t.Errorf("%s %s: Allow = %q, want %q", tc.method, tc.path, allow, tc.allow)
			}
			if strings.Contains(detail(p), "script") {
				t.Errorf("%s %s: the detail %q repeats the input", tc.method, tc.path, detail(p))
			}
		})
	}
}
