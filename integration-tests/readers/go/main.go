// Servers in Go that return how they read a request: `readers READER PORT`.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"sort"
	"strings"
)

type reading struct {
	Method string   `json:"method"`
	Host   *string  `json:"host"`
	Path   string   `json:"path"`
	Names  []string `json:"names"`
}

// ASCII only: a header value has no other characters. Bytes that are not UTF-8 are kept as characters with the same code.
func ascii(text string) string {
	var out strings.Builder
	for _, r := range text {
		if r < 0x7f {
			out.WriteRune(r)
		} else if r < 0x10000 {
			fmt.Fprintf(&out, "\\u%04x", r)
		} else {
			r -= 0x10000
			fmt.Fprintf(&out, "\\u%04x\\u%04x", 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		}
	}
	return out.String()
}

func latin1(text string) string {
	var out []rune
	for _, b := range []byte(text) {
		out = append(out, rune(b))
	}
	return string(out)
}

func tell(w http.ResponseWriter, r *http.Request, host *string, path string) {
	names := []string{}
	for name, values := range r.Header {
		if len(values) == 1 && values[0] == "v" {
			names = append(names, strings.ToLower(latin1(name)))
		}
	}
	sort.Strings(names)
	text, err := json.Marshal(reading{r.Method, host, path, names})
	if err != nil {
		panic(err)
	}
	w.Header().Set("x-reading", ascii(string(text)))
}

// What the patterns of ServeMux match: each segment decoded, and a slash in it is written as `%2F`.
// A redirect does not count as a reading.
func segments(r *http.Request) string {
	var out []string
	for _, segment := range strings.Split(r.URL.EscapedPath(), "/")[1:] {
		decoded, err := url.PathUnescape(segment)
		if err != nil {
			decoded = segment
		}
		out = append(out, strings.ReplaceAll(latin1(decoded), "/", "%2F"))
	}
	return "/" + strings.Join(out, "/")
}

func mux() http.Handler {
	m := http.NewServeMux()
	// ServeMux shows only whether the host of a pattern matches.
	for _, host := range []string{"admin.test", "api.test", "named.test", "localhost"} {
		m.HandleFunc(host+"/", func(w http.ResponseWriter, r *http.Request) {
			tell(w, r, &host, segments(r))
		})
	}
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { tell(w, r, nil, segments(r)) })
	return m
}

// How http.FileServer, and servers that clean the decoded path, read it.
func clean(w http.ResponseWriter, r *http.Request) {
	host := latin1((&url.URL{Host: r.Host}).Hostname())
	tell(w, r, &host, latin1(path.Clean("/"+r.URL.Path)))
}

func main() {
	handlers := map[string]http.Handler{"go_mux": mux(), "go_clean": http.HandlerFunc(clean)}
	panic(http.ListenAndServe("127.0.0.1:"+os.Args[2], handlers[os.Args[1]]))
}
