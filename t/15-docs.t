# What the documents say is so: they build, and httpd takes every line of them.
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Blocks of httpd's configuration are marked with "code-block:: apache"; one
# of a .htaccess file has the class htaccess.  In the tables of migration.rst
# each ``literal`` of the first two columns is a line of configuration.  An
# example in troubleshooting.rst is a line that was really written, with other
# numbers and paths.

use strict;
use warnings;
use Cwd qw(abs_path);
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use IO::Socket::INET;
use JSON::PP qw(decode_json);
use PhpFpm;
use Private;
use Test::More;

my $TOP = abs_path("$Bin/..");
my $MODULES = '/usr/lib/apache2/modules';
my ($PYTHON) = grep {
    (Private::run($_, '-c', 'import docutils'))[0] == 0;
} '/usr/bin/python3', 'python3';
plan skip_all => 'no docutils here' if !$PYTHON;

# ---- reading the documents ----

# Builds each file named, and tells what is in it: {file => {error, html,
# blocks => [{text, classes, line}], sections => [{title, depth, text, fields,
# blocks}], tables => [{section, rows => [[{literals, text}]]}]}}.
my $READER = <<'EOP';
import json, sys
from docutils import core, nodes, utils

SETTINGS = {'report_level': 2, 'halt_level': 2, 'syntax_highlight': 'none',
            'warning_stream': sys.stderr, '_disable_config': True}

def in_one_line(node):
    return ' '.join(node.astext().split())

def cell(entry):
    return {'literals': [n.astext() for n in entry.findall(nodes.literal)],
            'text': in_one_line(entry)}

def block(node):
    return {'text': node.astext(), 'classes': node.get('classes', []),
            'line': node.line}

def fields(section):
    return {f[0].astext(): in_one_line(f[1])
            for l in section.children if isinstance(l, nodes.field_list)
            for f in l}

def depth(node):
    return 1 + depth(node.parent) if isinstance(node.parent, nodes.section) \
        else 1

def section(node):
    return {'title': node[0].astext(), 'depth': depth(node),
            'text': in_one_line(node), 'fields': fields(node),
            'blocks': [block(b) for b in node.findall(nodes.literal_block)]}

def table(node):
    title = node.parent[0].astext()
    rows = [[cell(e) for e in row.children]
            for body in node.findall(nodes.tbody) for row in body.children]
    return {'section': title, 'rows': rows}

def read(name):
    text = open(name, encoding='utf-8').read()
    tree = core.publish_doctree(text, name, settings_overrides=SETTINGS)
    if not hasattr(tree, 'findall'):        # docutils before 0.18
        nodes.Node.findall = nodes.Node.traverse
    html = core.publish_from_doctree(tree, writer_name='html',
                                     settings_overrides=SETTINGS)
    return {'html': html.decode(), 'error': '',
            'blocks': [block(b) for b in tree.findall(nodes.literal_block)],
            'sections': [section(s) for s in tree.findall(nodes.section)],
            'tables': [table(t) for t in tree.findall(nodes.table)]}

def try_to_read(name):
    try:
        return read(name)
    except utils.SystemMessage as problem:
        return {'html': '', 'error': str(problem), 'blocks': [],
                'sections': [], 'tables': []}

print(json.dumps({name: try_to_read(name) for name in sys.argv[1:]}))
EOP

my @files = map { s{^\Q$TOP\E/}{}r } glob "$TOP/*.rst $TOP/docs/*.rst";
my $scripts = Private::temp_dir('docs');
Private::spew("$scripts/read.py", $READER);
my $read = (Private::run('sh', '-c', "cd '$TOP' && exec '$PYTHON' "
                         . "'$scripts/read.py' @files 2>/dev/null"))[1];
my $docs = eval { decode_json($read) } || BAIL_OUT("no documents: $read");

sub sections {
    my ($file) = @_;
    return @{ $docs->{$file}{sections} };
}

sub names { return join ' ', sort @_ }

subtest 'they build without a word' => sub {
    for my $file (@files) {
        is($docs->{$file}{error}, '', $file);
        ok(length $docs->{$file}{html} > 500, 'to a page');
    }
};

subtest 'links lead somewhere' => sub {
    my $count = 0;
    for my $file (@files) {
        my ($dir) = $file =~ m{^(.*/)?};
        for my $link ($docs->{$file}{html} =~ /href="([^"]*)"/g) {
            next if $link =~ /^(?:https?|mailto):/;
            my ($path, $anchor) = $link =~ /^([^#]*)#?(.*)$/;
            my $target = $path eq '' ? $file : ($dir // '') . $path;
            1 while $target =~ s{[^/.]+/\.\./}{};
            $count++;
            ok(-e "$TOP/$target", "$file: $link, a file") or next;
            next if $anchor eq '';
            my $page = ($docs->{$target} || {})->{html} // '';
            like($page, qr/\bid="\Q$anchor\E"/, "$file: $link, the place");
        }
    }
    cmp_ok($count, '>', 100, "$count links");
    for my $file (grep { $_ ne 'docs/index.rst' } @files) {
        my $name = $file =~ s{^docs/}{}r;
        $name = "../$name" if $name eq $file;
        like($docs->{'docs/index.rst'}{html}, qr/href="\Q$name\E"/,
             "$file is in the index");
    }
};

# ---- directives ----

# What httpd itself says of the module's directives: name => {help, context,
# override}.
sub directives_of_httpd {
    my $httpd = Httpd->prepare;
    my (undef, $said) = Private::run('/usr/sbin/apache2', '-L', '-f',
                                     $httpd->root . '/httpd.conf');
    my %known;
    while ($said =~ /^(\w+)\ \(mod_fastcgi_handler\.c\)\n
                     \t(.*)\n\tAllowed\ in\ (.*)(?:\n\t(.*))?/gmx) {
        my ($name, $help, $where, $when) = ($1, $2, $3, $4 // '');
        $known{$name} = {
            help => $help,
            context => 'server config, virtual host'
                . ($where =~ /anywhere/ ? ', directory' : '')
                . ($where =~ /\.htaccess/ ? ', .htaccess' : ''),
            override => $when =~ /AllowOverride includes (\w+)/ ? $1 : 'none',
        };
    }
    return \%known;
}

my %section = map { $_->{title} => $_ } sections('docs/directives.rst');

subtest 'each directive, as httpd knows it' => sub {
    my $known = directives_of_httpd();
    my @documented = grep { /^Fcgi/ } keys %section;
    cmp_ok(scalar(keys %$known), '>', 15, 'httpd lists them');
    is(names(@documented), names(keys %$known), 'no more and no less');
    for my $name (sort grep { $known->{$_} } @documented) {
        my $is = $known->{$name};
        my $field = $section{$name}{fields};
        is($field->{Context}, $is->{context}, "$name: Context");
        is($field->{Override}, $is->{override}, 'Override');
        is($field->{Module}, 'mod_fastcgi_handler', 'Module');
        ok($field->{$_}, $_) for qw(Description Syntax Default);
        like($field->{Syntax} // '', qr/^$name /, 'the syntax is of it');
        ok(scalar(grep { "@{ $_->{classes} }" =~ /apache/
                         && $_->{text} =~ /^\s*$name /m }
                  @{ $section{$name}{blocks} }), 'it has an example');
        # What help says of the default: in the part that has the word.
        my ($part) = grep { /default/ } split /;/, $is->{help};
        like($part, qr/\b\Q$field->{Default}\E\b/i, 'Default') if $part;
    }
};

# What is accepted must be, and the next value must not be.
my %range = (
    FcgiMaxHeaderSize => ['255', '256', '1024M', '1025M'],
    FcgiBufferMemory => ['255', '256', '1024M', '1025M'],
    FcgiBufferMax => ['255', '256', '1048576G', '1048577G'],
    'FcgiErrorOverride On' => ['399', '400', '599', '600'],
    'FcgiBackend /x max=' => [0, 1, 65535, 65536],
    'FcgiBackend /x max=1 queue=' => [-1, 0, 65535, 65536],
    'FcgiBackend /x keepalive=' => [-1, 0, 65535, 65536],
    'FcgiBackend /x keepalive=1 requests=' =>
        [0, 1, 2147483647, 2147483648],
);

subtest 'ranges' => sub {
    for my $what (sort keys %range) {
        my ($below, @inside) = @{ $range{$what} };
        my $above = pop @inside;
        my $glue = $what =~ /=$/ ? '' : ' ';
        for my $value ($below, @inside, $above) {
            my ($status) = Httpd->configtest("$what$glue$value");
            my $right = grep { $_ eq $value } @inside;
            is(!$status, !!$right, "$what$glue$value");
        }
        my ($name, $key) = $what =~ /^(\w+).*?(?:([\w-]+=))?$/;
        my $text = $section{ $key // $name }{text} // '';
        my $says = $text =~ s/ (?:bytes )?to / to /r;
        like($says, qr/\b$inside[0] to $inside[1]\b/, 'as it says')
            or diag $text;
    }
};

# The keys' defaults, as httpd logs them at startup.
subtest 'keys of FcgiBackend' => sub {
    my (undef, $said) = Httpd->configtest('FcgiBackend /x none=1');
    my @keys = $said =~ /\b([a-z-]+=)(?=[, ]|$)/gm;
    my @documented = grep { $section{$_}{depth} == 2 } keys %section;
    is(names(@documented), names(grep { $_ ne 'none=' } @keys),
       'no more and no less');
    my $httpd = Httpd->start(
        config => "FcgiBackend localhost:1 max=1 keepalive=1\n");
    my ($line) = $httpd->error_log =~ /FCGI26: (.*)/;
    for my $key (sort @documented) {
        my $default = $section{$key}{fields}{Default} // '';
        ok($section{$key}{fields}{Range}, "$key: Range") if $key ne 'ttl=';
        next if $key =~ /^(?:max|keepalive)=/;
        my ($is) = $line =~ / \Q$key\E(\d+)/;
        $is = $is / 1000 . 's' if defined $is && $line =~ /$key\d+ms/;
        is($default, $is // 'no limit', "$key: Default");
    }
    ($line) = Httpd->start(config => "FcgiBackend /x\n")->error_log
        =~ /FCGI26: (.*)/;
    unlike($line, qr/max=|keepalive=/, 'no limit, and none kept');
    is($section{'max='}{fields}{Default}, 'no limit');
    is($section{'keepalive='}{fields}{Default}, 0);
};

# ---- configuration ----

my @ALL = grep { -e "$MODULES/mod_$_.so" } qw(
    actions auth_basic authn_core authn_file authnz_fcgi authz_user brotli
    cache cache_disk deflate dir env filter headers include ratelimit remoteip
    reqtimeout rewrite socache_shmcb ssl userdir vhost_alias);

# Stands in for what an example names and a test cannot have.
sub stand_in {
    my ($text) = @_;
    $text =~ s{/var/spool/fcgi}{\@ROOT\@/tmp}g;
    $text =~ s{/usr/lib/cgi-bin/php|/srv/a(?:pp/app|uth/auth)\.fcgi}
              {/bin/true}g;
    return $text;
}

# Many commands at the same time, four by four: their results in order.
sub at_once {
    my ($code, @list) = @_;
    my $dir = Private::temp_dir('jobs');
    my @pids;
    for my $worker (0 .. 3) {
        push @pids, Private::spawn(code => sub {
            for my $n (grep { $_ % 4 == $worker } 0 .. $#list) {
                my @result = $code->($list[$n]);
                Private::spew("$dir/$n", JSON::PP::encode_json(\@result));
            }
        });
    }
    Private::wait_until(120, sub { !grep { Private::alive($_) } @pids });
    return map { decode_json(Private::slurp("$dir/$_") || '[1,"nothing"]') }
        0 .. $#list;
}

sub configtest {
    my ($config, %opt) = @_;
    return Httpd->configtest(modules => \@ALL, config => stand_in($config),
                             %opt);
}

sub in_section { return "<Directory /x>\n$_[0]\n</Directory>" }

# What docs/proxy.rst is about, beside that.
my @PROXY = grep { -e "$MODULES/mod_$_.so" } qw(
    slotmem_shm proxy proxy_balancer lbmethod_byrequests lbmethod_bytraffic
    lbmethod_bybusyness lbmethod_heartbeat watchdog heartmonitor proxy_hcheck
    status);

subtest 'each block of configuration passes configtest' => sub {
    my @blocks = map { my $file = $_;
                       map { { %$_, file => $file } }
                       grep { grep { $_ eq 'apache' } @{ $_->{classes} } }
                       @{ $docs->{$file}{blocks} } } @files;
    cmp_ok(scalar @blocks, '>', 50, 'there are many');
    my @results = at_once(sub {
        my ($block) = @_;
        my $text = $block->{text};
        $text = in_section($text)
            if grep { $_ eq 'htaccess' } @{ $block->{classes} };
        return configtest($text, $block->{file} eq 'docs/proxy.rst'
                          ? (modules => [@ALL, @PROXY, 'proxy_fastcgi']) : ());
    }, @blocks);
    for my $n (0 .. $#blocks) {
        my ($status, $output) = @{ $results[$n] };
        my ($first) = $blocks[$n]{text} =~ /(.*)/;
        is($status, 0, "$blocks[$n]{file}: $first") or diag $output;
        unlike($output, qr/warn/i, 'without a warning')
            if $first !~ /^LoadModule/;
    }
};

my %TABLES = (mod_proxy_fcgi => 20, mod_php => 6, mod_xsendfile => 6, mod_fcgid => 15, mod_fastcgi => 12,
              nginx => 40, HAProxy => 20, Monkey => 8);
my %table = map { $_->{section} => $_->{rows} }
    @{ $docs->{'docs/migration.rst'}{tables} };

subtest 'migration: what is here' => sub {
    is(names(keys %table), names(keys %TABLES), 'the tables');
    for my $name (sort keys %TABLES) {
        my @rows = @{ $table{$name} || [] };
        cmp_ok(scalar @rows, '>=', $TABLES{$name}, "$name: rows");
        my @results = at_once(sub {
            my $lines = join "\n", @{ $_[0][1]{literals} };
            return (0, '') if $lines eq '';
            my @modules = $lines =~ /balancer:/
                ? (modules => [@ALL, @PROXY, 'proxy_fastcgi']) : ();
            my @result = configtest($lines, @modules);
            @result = configtest(in_section($lines))
                if $result[0] && $lines =~ /^SetHandler/;
            return @result;
        }, @rows);
        for my $n (0 .. $#rows) {
            my ($theirs, $here, $remark) = @{ $rows[$n] };
            my ($status, $output) = @{ $results[$n] };
            my $what = join ' ', @{ $here->{literals} };
            is($status, 0, "$name: " . ($what || $theirs->{text}))
                or diag $output;
            next if @{ $here->{literals} };
            is($here->{text}, 'none', 'none');
            like($remark->{text}, qr/\w/, 'and a remark what instead');
        }
    }
};

# Whether an httpd with these modules, and without ours, takes it.
sub taken_by_httpd {
    my ($modules, $text) = @_;
    my @result = configtest($text, module => 0,
                            modules => [@ALL, @$modules]);
    @result = configtest(in_section($text), module => 0,
                         modules => [@ALL, @$modules])
        if $result[0];
    return @result;
}

my $NGINX = (grep { -x } '/usr/sbin/nginx', '/usr/local/sbin/nginx')[0];

# A whole configuration of nginx for what stands in http { }.
sub nginx_configuration {
    my ($dir, $http) = @_;
    return <<"EOC";
daemon off;
master_process off;
pid $dir/nginx.pid;
error_log $dir/error.log;
events { }
http {
access_log off;
client_body_temp_path $dir/body;
proxy_temp_path $dir/proxy;
fastcgi_temp_path $dir/fcgi;
uwsgi_temp_path $dir/uwsgi;
scgi_temp_path $dir/scgi;
$http
}
EOC
}

# Whether nginx takes it in a location, a server, or outside.
sub taken_by_nginx {
    my ($text) = @_;
    my $dir = Private::temp_dir('nginx');
    $text =~ s{/var/(?:spool/fcgi|cache/nginx)}{$dir/held}g;
    my @result;
    for my $around ('server { location /x { %s } }', 'server { %s }', '%s',
                    'fastcgi_cache_path /x keys_zone=news:1m; server { %s }') {
        my $http = $around =~ s/%s/\n$text\n/r =~ s{_path /x}{_path $dir/c}r;
        Private::spew("$dir/nginx.conf", nginx_configuration($dir, $http));
        @result = Private::run($NGINX, '-t', '-q', '-e', "$dir/error.log",
                               '-p', "$dir", '-c', "$dir/nginx.conf");
        last if !$result[0];
    }
    return @result;
}

my ($HAPROXY) = grep { -x } '/usr/sbin/haproxy', '/usr/local/sbin/haproxy';

# Whether HAProxy takes it as it is, in a fcgi-app or in a backend of one.
sub taken_by_haproxy {
    my ($text) = @_;
    my $dir = Private::temp_dir('haproxy');
    my $times = "timeout connect 1s\ntimeout server 1s";
    my $app = "fcgi-app php\ndocroot /srv";
    my $backend = join "\n", 'backend shop', $times,
        $text =~ /^use-fcgi-app/ ? () : 'use-fcgi-app php', $text,
        $text =~ /^server/m ? () : 'server one 10.0.0.1:9000 proto fcgi';
    my @result;
    for my $part ($text, "$app\n$text", "$app\n$backend") {
        Private::spew("$dir/haproxy.cfg", <<"EOC");
defaults
mode http
timeout client 1s
$times
frontend all
bind unix\@$dir/socket
$part
EOC
        @result = Private::run($HAPROXY, '-c', '-f', "$dir/haproxy.cfg");
        last if !$result[0];
    }
    return @result;
}

my %taken = (
    HAProxy => $HAPROXY ? \&taken_by_haproxy : undef,
    mod_proxy_fcgi => sub {
        taken_by_httpd([qw(proxy proxy_fcgi proxy_balancer slotmem_shm
                           lbmethod_byrequests)], @_);
    },
    mod_fcgid => -e "$MODULES/mod_fcgid.so"
        ? sub { taken_by_httpd(['fcgid'], @_) } : undef,
    nginx => $NGINX ? \&taken_by_nginx : undef,
);

for my $name (sort keys %taken) {
    subtest "migration: what is there, $name" => sub {
        plan skip_all => "no $name here" if !$taken{$name};
        my @rows = grep { @{ $_->[0]{literals} } } @{ $table{$name} };
        my @results = at_once(sub {
            my ($row) = @_;
            return $taken{$name}->(join "\n", @{ $row->[0]{literals} });
        }, @rows);
        for my $n (0 .. $#rows) {
            my ($status, $output) = @{ $results[$n] };
            is($status, 0, join ' ', @{ $rows[$n][0]{literals} })
                or diag $output;
        }
    };
}

# ---- migration, live ----

# Says what it got; or does what the query says.
sub answer {
    my ($c) = @_;
    my $request = $c->read_request(5) or return;
    my $params = $request->{params};
    my $what = $params->{QUERY_STRING} // '';
    my %says = (404 => "Status: 404 Not Found\r\n",
                accel => "X-Accel-Redirect: /protected/report.txt\r\n");
    $c->reply(($says{$what} // '') . "X-Powered-By: PHP/8\r\n"
        . "Content-Type: text/plain\r\n\r\n"
        . join '', map { "$_=$params->{$_}\n" } sort keys %$params);
}

my %GET = (method => 'GET', path => '/index.php', body => undef);

sub ask {
    my ($port, $host, %opt) = @_;
    %opt = (%GET, %opt);
    my $body = $opt{body} // '';
    my $head = $opt{chunked} ? "Transfer-Encoding: chunked\r\n"
        : defined $opt{length} ? "Content-Length: $opt{length}\r\n"
        : $body ne '' ? 'Content-Length: ' . length($body) . "\r\n" : '';
    $body = sprintf "%x\r\n%s\r\n0\r\n\r\n", length $body, $body
        if $opt{chunked};
    return Client->request($port,
        "$opt{method} $opt{path} HTTP/1.1\r\nHost: $host\r\n"
        . "Connection: close\r\n$head" . ($opt{field} // '') . "\r\n$body");
}

# What is looked at: a variable, the status, the first line of the body, a
# field of the answer.
sub look {
    my ($answer, $at) = @_;
    return $answer->status if $at eq 'status';
    return $answer->header($1) // '-' if $at =~ /^field (.*)/;
    return ($answer->body =~ /(.*)/)[0] if $at eq 'line';
    return $answer->body =~ /^\Q$at\E=(.*)$/m ? $1 : '-';
}

# Of the row whose left side begins so: the request, what is looked at, and
# the value, there and here; two, if they differ.
my %FCGID = (path => '/app.fcgi');
my %LIVE = (
    mod_fcgid => [
        ['AddHandler fcgid-script .fcgi', { %FCGID, method => 'POST',
         body => 'x' x 200_000 }, status => 500, 200],
        ['FcgidMaxRequestLen', { %FCGID, method => 'POST',
         body => 'x' x 200_000 }, CONTENT_LENGTH => 200_000],
        ['FcgidInitialEnv', { %FCGID }, APP_ENV => 'production'],
        ['FcgidPassHeader', { %FCGID,
         field => "Authorization: Basic YTpi\r\n" },
         HTTP_AUTHORIZATION => 'Basic YTpi'],
    ],
    mod_proxy_fcgi => [
        ['<FilesMatch "\.php$"> SetHandler "proxy:unix:', {}, SCRIPT_NAME =>
         '/index.php'],
        ['<FilesMatch "\.php$"> SetHandler "proxy:unix:',
         { path => '/none.php' }, status => 200, 404],
        ['<FilesMatch "\.php$"> SetHandler "proxy:fcgi:', {}, SCRIPT_NAME =>
         '/index.php'],
        ['ProxyPassMatch', {}, REQUEST_URI => '/index.php'],
        ['ProxyPassMatch', { path => '/closed/a.php' }, status => 200, 403],
        ['ProxyPass "/app" "fcgi://127.0.0.1:3000/"', { path => '/app/x' },
         REQUEST_URI => '/app/x'],
        ['SetEnv proxy-fcgi-pathinfo', { path => '/index.php/a/b' },
         PATH_INFO => '-', '/a/b'],
        ['ProxyFCGISetEnvIf "true" APP_ENV', {}, APP_ENV => 'production'],
        ['ProxyFCGISetEnvIf "-n %', { field => "X-Tenant: t\r\n" },
         TENANT => 't'],
        ['ProxyFCGISetEnvIf "-n %', {}, TENANT => '-'],
        ['ProxyFCGISetEnvIf "%{HTTP_HOST} =~', {}, TENANT => 'row'],
        ['ProxyFCGISetEnvIf "true" !HTTP', { field => "X-Debug: 1\r\n" },
         HTTP_X_DEBUG => '-'],
        ['ProxyFCGISetEnvIf "true" SCRIPT', {}, SCRIPT_FILENAME =>
         '/app/index.php'],
        ['SetEnvIf Authorization', { field => "Authorization: Basic YTpi\r\n"
         }, HTTP_AUTHORIZATION => 'Basic YTpi'],
        ['SetEnv proxy-sendcl', { method => 'POST', chunked => 1,
         body => 'x' x 70_000 }, CONTENT_LENGTH => 70_000],
        ['ProxyErrorOverride On', { path => '/index.php?404' },
         line => 'our own page'],
        ['ProxyErrorOverride On 404', { path => '/index.php?404' },
         line => 'our own page'],
    ],
    nginx => [
        ['location ~ \.php$ {', {}, SCRIPT_NAME => '/index.php'],
        ['location ~ \.php$ {', { field => "Authorization: Basic YTpi\r\n" },
         HTTP_AUTHORIZATION => 'Basic YTpi', '-'],
        ['location /app {', { path => '/app/x' }, SCRIPT_NAME => '/app'],
        ['location ^~ /static/', { path => '/static/a.php' },
         line => 'source'],
        ['fastcgi_param SCRIPT_FILENAME $doc', {}, SCRIPT_FILENAME =>
         '@DOCROOT@/index.php'],
        ['fastcgi_param SCRIPT_FILENAME /app', {}, SCRIPT_FILENAME =>
         '/app/public/index.php'],
        ['fastcgi_param SCRIPT_FILENAME $real', {}, SCRIPT_FILENAME =>
         '@RELEASE@/index.php'],
        ['fastcgi_param APP_ENV', {}, APP_ENV => 'production'],
        ['fastcgi_param HTTP_PROXY', { field => "Proxy: x\r\n" },
         HTTP_PROXY => '-'],
        ['fastcgi_index', { path => '/' }, SCRIPT_NAME => '/index.php'],
        ['try_files $fastcgi', { path => '/none.php' }, status => 404],
        ['try_files $uri $uri/', { path => '/any/where' },
         SCRIPT_NAME => '/index.php'],
        ['fastcgi_intercept_errors', { path => '/index.php?404' },
         line => 'our own page'],
        ['error_page', { path => '/none.html' }, line => 'our own page'],
        ['client_max_body_size', { method => 'POST', length => 104857601 },
         status => 413],
        ['fastcgi_hide_header', {}, 'field X-Powered-By' => '-'],
        ['location /protected/', { path => '/index.php?accel' },
         line => 'a report'],
        ['location /protected/', { path => '/protected/report.txt' },
         status => 404, 403],
    ],
);

# Those outside of any row: what every host of the test has.
my %common = (
    mod_proxy_fcgi => '<FilesMatch "\.php$">' . "\n"
        . 'SetHandler "proxy:unix:/run/php/shop.sock|fcgi://x"' . "\n"
        . "</FilesMatch>\n",
    mod_fcgid => "AddHandler fcgid-script .fcgi\n",
    here => '<FilesMatch "\.(?:php|fcgi)$">' . "\n"
        . "SetHandler fcgi:/run/php/shop.sock\n</FilesMatch>\n",
    nginx => <<'EOC',
include /etc/nginx/fastcgi_params;
fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
location ~ \.php$ { fastcgi_pass unix:/run/php/shop.sock; }
EOC
);

my %unix = (transport => 'unix', workers => 4);
my $shop = FcgiApp->start(\&answer, %unix);
my $net = FcgiApp->start(\&answer, workers => 4, transport => 'tcp');
my $site = Private::temp_dir('site');
Private::spew("$site/docs/$_", 'source')
    for qw(index.php static/a.php closed/a.php);
Private::spew("$site/docs/errors/404.html", "our own page\n");
Private::spew("$site/files/report.txt", "a report\n");
symlink "$site/docs", "$site/current";
# A program that mod_fcgid starts: what it accepts comes on its standard input.
Private::spew("$site/docs/app.fcgi", <<"EOP", 0755);
#!$^X
use lib '$Bin/lib';
use FcgiApp;
use IO::Socket::UNIX;
my \$listener = IO::Socket::UNIX->new_from_fd(0, '+<');
while (my \$socket = \$listener->accept) {
    my \$c = FcgiApp::Connection->new(\$socket);
    my \$request = \$c->read_request(5) or next;
    my %all = (APP_ENV => \$ENV{APP_ENV}, %{ \$request->{params} });
    \$c->reply("Content-Type: text/plain\\r\\n\\r\\n"
        . join '', map { "\$_=\$all{\$_}\\n" } sort keys %all);
    \$c->close;
}
EOP

# Examples' names become those of this test.
sub localized {
    my ($text) = @_;
    my ($socket, $address) = ($shop->address, $net->address);
    $text =~ s{/run/php/shop\.sock}{$socket}g;
    $text =~ s{127\.0\.0\.1:[39]000}{$address}g;
    $text =~ s{/srv/shop/files}{$site/files}g;
    $text =~ s{/srv/shop/public}{$site/current}g;
    return $text;
}

# The row of a table whose left side begins with these words.
sub row_of {
    my ($name, $words) = @_;
    my @found = grep {
        index(join(' ', @{ $_->[0]{literals} }), $words) == 0;
    } @{ $table{$name} || [] };
    return $found[0] || die "$name has no row for $words\n";
}

sub virtual_host {
    my ($host, $text) = @_;
    return <<"EOC";
<VirtualHost *>
ServerName $host
DocumentRoot $site/current
ErrorDocument 404 /errors/404.html
$text
</VirtualHost>
EOC
}

# An httpd with a virtual host for each row, rowN, of the column.
sub httpd_of_rows {
    my ($name, $column, @rows) = @_;
    my $hosts = '';
    for my $n (0 .. $#rows) {
        my $lines = join "\n", @{ $rows[$n][$column]{literals} };
        # A row that says all of an application needs no other.
        my $is_whole = $lines =~ /SetHandler "?(?:proxy|fcgi):|^ProxyPass/m
            && $lines !~ m{/run/app\.sock};
        $lines = in_section($lines) =~ s{/x>}{$site/current>}r
            if $lines =~ /^SetHandler/;
        my $common = $is_whole ? '' : $common{ $column ? 'here' : $name };
        $hosts .= virtual_host("row$n", localized("$common$lines"));
    }
    return Httpd->start(
        modules => [@ALL, $column ? () : $name eq 'mod_fcgid' ? 'fcgid'
                    : qw(proxy proxy_fcgi)],
        module => $column, config => <<"EOC", extra_vhosts => $hosts);
DirectoryIndex index.php
<IfModule mod_fcgid.c>
FcgidIPCDir \@ROOT\@/tmp
FcgidProcessTableFile \@ROOT\@/tmp/table
</IfModule>
<Directory $site>
Options FollowSymLinks ExecCGI
Require all granted
</Directory>
<Directory $site/current/closed>
Require all denied
</Directory>
<VirtualHost *>
ServerName none
</VirtualHost>
EOC
}

sub nginx_of_rows {
    my (@rows) = @_;
    my $dir = Private::temp_dir('nginx');
    my $hold = Private::reserve_port();
    my $port = $hold->sockport;
    my $servers = '';
    for my $n (0 .. $#rows) {
        my @lines = @{ $rows[$n][0]{literals} };
        my $text = join "\n", @lines;
        my $common = $common{nginx};
        $common = '' if $text =~ /location (?:~|\/app)/;
        if ($text =~ /^try_files \$fastcgi/) {      # of that location
            $common =~ s/\{ /{ $text /;
            $text = '';
        }
        $common =~ s/^fastcgi_param SCRIPT_FILENAME.*\n//m
            if $text =~ /^fastcgi_param SCRIPT_FILENAME/;
        $text = "location / { $text }" if $text =~ /^try_files/;
        $text .= "\nindex index.php;" if $text =~ /^fastcgi_index/;
        $text .= "\nerror_page 404 /errors/404.html;"
            if $text !~ /error_page/;
        $servers .= localized("server { listen 127.0.0.1:$port reuseport; "
            . "server_name row$n;\nroot $site/current;\n$common$text\n}\n")
            =~ s/ reuseport/$n ? '' : ' reuseport'/er;
    }
    Private::spew("$dir/nginx.conf", nginx_configuration($dir, $servers));
    close $hold;
    my $pid = Private::spawn(log => "$dir/output", exec => [
        $NGINX, '-e', "$dir/error.log", '-p', "$dir", '-c',
        "$dir/nginx.conf"]);
    Private::wait_until(10, sub {
        IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port");
    }) or diag Private::slurp("$dir/output");
    return { port => $port, pid => $pid, dir => $dir };
}

for my $name (sort keys %LIVE) {
    subtest "migration: the same there and here, $name" => sub {
        plan skip_all => "no $name here" if !$taken{$name};
        my @cases = @{ $LIVE{$name} };
        my @rows = map { row_of($name, $_->[0]) } @cases;
        my $here = httpd_of_rows($name, 1, @rows);
        my $there = $name eq 'nginx' ? nginx_of_rows(@rows)
            : httpd_of_rows($name, 0, @rows);
        my $port = ref $there eq 'HASH' ? $there->{port} : $there->port;
        for my $n (0 .. $#cases) {
            my ($row, $request, $at, $wanted, $else) = @{ $cases[$n] };
            for (grep { defined } $wanted, $else) {
                s{\@DOCROOT\@}{$site/current};
                s{\@RELEASE\@}{$site/docs};
            }
            my $is = look(ask($port, "row$n", %$request), $at);
            is($is, $wanted, "$row: $at, there");
            my $answer = ask($here->port, "row$n", %$request);
            is(look($answer, $at), $else // $wanted, 'and here')
                or diag $answer->raw, $here->error_log;
        }
        $_->ok_healthy for grep { ref ne 'HASH' } $here, $there;
        Private::end($there->{pid}) if $name eq 'nginx';
    };
}

# ---- messages ----

my @sources = glob "$TOP/*.c $TOP/proxy/*.c";
my %id = map { $_ => 1 }
    map { Private::slurp($_) =~ /(?:FCGI|PROXY)_LOGNO\("(\d+)"\)/g } @sources;
my %of = map { $_->{title} => $_ }
    grep { $_->{title} =~ /^FCGI\d\d$/ } sections('docs/troubleshooting.rst');

subtest 'each message has its section' => sub {
    cmp_ok(scalar(keys %id), '>', 20, 'messages');
    is(names(keys %of), names(map { "FCGI$_" } keys %id),
       'no more and no less');
    for my $file (@files) {
        my %named = map { $_ => 1 } $docs->{$file}{html} =~ /FCGI(\d\d)\b/g;
        is(names(grep { !$id{$_} } keys %named), '', "$file names no other");
    }
};

# A line without what differs each time.
sub in_general {
    my ($line) = @_;
    $line =~ s/\s+/ /g;
    $line =~ s/^ | $//g;
    $line =~ s{fcgi:\S+?(?=[:;,'\)]?(?: |$|'))}{fcgi:ADDRESS}g;
    $line =~ s{(?<![\w:])/[\w./+-]+}{/PATH}g;
    $line =~ s/\battempts?\b/attempts/g;
    $line =~ s/\d+/N/g;
    return $line =~ s/FCGI(?=N)/FCGI/r;
}

# The lines that the examples of some sections show: [section, line].
sub examples {
    my ($wanted) = @_;
    return map { my $title = $_->{title};
                 map { my $text = $_->{text};
                       map { [$title, $_] } split /\n{2,}/, $text }
                 grep { !@{ $_->{classes} } } @{ $_->{blocks} } }
        grep { $_->{title} =~ $wanted } sections('docs/troubleshooting.rst');
}

# Entries of the log without time, process and request, in general.
sub entries {
    return map { in_general(
        s/^\[[^\]]*\] (\[\S+\]) \[pid \d+\](?: \[\S+\])?/$1/r) }
        split /\n/, $_[0];
}

my $TYPE = "Content-Type: text/plain\r\n";
my %story = (
    silent => sub { $_[0]->wait_eof(5) },
    dies => sub { 1 },
    short => sub { $_[0]->reply("Content-Length: 100\r\n$TYPE\r\nabc") },
    alien => sub {
        $_[0]->send("HTTP/1.1 200 OK\r\n\r\n");
        $_[0]->wait_eof(3);
    },
    nohead => sub { $_[0]->end },
    cuthead => sub { $_[0]->stdout('Content-Type: te'); $_[0]->end },
    badhead => sub { $_[0]->reply("Hello, world\r\n\r\nx") },
    bighead => sub {
        $_[0]->reply('X: ' . 'x' x 70_000 . "\r\n$TYPE\r\nx");
    },
    overloaded => sub { $_[0]->end(0, FCGI_OVERLOADED) },
    role => sub { $_[0]->end(0, FCGI_UNKNOWN_ROLE) },
    stderr => sub {
        $_[0]->stderr('PHP message: PHP Warning:  Undefined variable $x in '
                      . "/srv/shop/public/index.php on line 3\n");
        $_[0]->reply("$TYPE\r\nx");
    },
    long => sub { $_[0]->reply("Content-Length: 3\r\n$TYPE\r\nabcdef") },
    status => sub { $_[0]->stdout("$TYPE\r\nx"); $_[0]->end(3) },
    file => sub { $_[0]->reply("X-Sendfile: /etc/none/a.pdf\r\n\r\n") },
    url => sub { $_[0]->reply("X-Accel-Redirect: http://x/a\r\n\r\n") },
    alien_id => sub { $_[0]{id}++; $_[0]->end },
    noend => sub { $_[0]->stdout("$TYPE\r\nx"); $_[0]->stdout('') },
    oddlength => sub {
        $_[0]->reply("Content-Length: 2, 2\r\n$TYPE\r\nxx");
    },
    big => sub { $_[0]->reply("$TYPE\r\n" . 'x' x 20_000_000) },
    held => sub {
        $_[0]->report(held => 1);
        $_[0]->wait_release('held', 5);
        $_[0]->reply("$TYPE\r\nx");
    },
    stray => sub {
        my ($c) = @_;
        $c->send($c->records(FCGI_STDOUT, 1, "$TYPE\r\nx")
                 . $c->records(FCGI_STDOUT, 1, '') . $c->end_record . 'more');
        $c->wait_eof(2);
    },
);

sub tell {
    my ($c) = @_;
    my $request = $c->read_request(5) or return;
    my ($name) = $request->{params}{REQUEST_URI} =~ m{/(\w+)$};
    ($story{$name} // $story{long})->($c);
}

# Everything that can go wrong, as far as one server can show it: its log, and
# id => the statuses that clients got.
sub go_wrong {
    my %app = map { $_ => FcgiApp->start(\&tell, %unix) }
        qw(app keeps line turn shut inside);
    my $dir = Private::temp_dir('wrong');
    chmod 0600, $app{shut}->address;
    mkdir "$dir/gone", 0777;
    mkdir "$dir/closed", 0700;
    my $php = PhpFpm::program()
        ? PhpFpm->start(ini => { post_max_size => '1K', log_errors => 1 })
        : undef;
    my $httpd = Httpd->start(
        files => {
            'own.php' => '', 'photo.jpg' => '', 'index.php' => '',
            'fpm/none.php' => '', 'fpm/post.php' => '<?php echo 1;',
            'ht/a.x' => '', 'ht/.htaccess' =>
                "SetHandler fcgi:/run/php/other.sock\n",
        },
        vars => { DIR => "$dir", LONG => 'x' x 64, # no server is asked
                  FPM => $php ? $php->handler : 'fcgi:/none',
                  map { uc $_ => $app{$_}->address } keys %app },
        config => <<'EOC');
FcgiBackend keeps @KEEPS@ keepalive=1
FcgiBackend line @LINE@ max=1 queue=0 keepalive=1
FcgiBackend shop @TURN@ max=1 queue=1 queue-timeout=100ms keepalive=1
FcgiConnectTimeout 100ms
FcgiRetry Off
<Location /app>
  SetHandler fcgi:@APP@
  FcgiTimeout 300ms
  FcgiSendfile @DIR@
</Location>
<Location /param>
  FcgiParam VERSION "%{file:@DIR@/none}"
</Location>
<Location /max>
  FcgiBufferMax 1K
</Location>
<Location /limit>
  LimitRequestBody 100
</Location>
<Location /space>
  FcgiBufferDir @DIR@/gone
</Location>
<LocationMatch "^/(?:param|max|limit|space|$)">
  SetHandler fcgi:@APP@
</LocationMatch>
<Location /keeps>
  SetHandler fcgi:keeps
</Location>
<Location /line>
  SetHandler fcgi:line
</Location>
<Location /turn>
  SetHandler fcgi:shop
</Location>
<Location /shut>
  SetHandler fcgi:@SHUT@
</Location>
<Location /inside>
  SetHandler fcgi:@DIR@/closed/app.sock
</Location>
<Location /refused>
  SetHandler fcgi:127.0.0.1:1
</Location>
<Location /missing>
  SetHandler fcgi:@DIR@/none.sock
</Location>
<Location /unknown>
  SetHandler fcgi:@LONG@.invalid:9000
</Location>
<Location /expression>
  SetHandler "fcgi:%{HTTP:X-Where}"
</Location>
AddHandler fcgi:@APP@ .x
<LocationMatch "^/photo\.jpg/.*\.php$">
  SetHandler fcgi:@APP@
</LocationMatch>
<Files own.php>
  AcceptPathInfo Off
</Files>
<Location /own.php>
  SetHandler fcgi:@APP@
</Location>
<Directory @DOCROOT@/fpm>
  SetHandler @FPM@
</Directory>
<Files none.php>
  FcgiDocumentRoot /none
</Files>
EOC
    rmdir "$dir/gone";
    my %status;
    my $get = sub {
        my ($id, $path, %field) = @_;
        my $answer = Client->get($httpd->port, $path, %field);
        $status{$id}{ $answer->status } = 1 if $answer->complete;
    };
    my $post = sub {
        my ($id, $path, $size) = @_;
        my $answer = ask($httpd->port, 'x', method => 'POST', path => $path,
                         body => 'x' x $size, field => 'Content-Type: '
                         . "application/x-www-form-urlencoded\r\n");
        $status{$id}{ $answer->status } = 1;
    };
    my $open = sub {
        my $conn = Client->connect($httpd->port);
        $conn->send("GET $_[0] HTTP/1.1\r\nHost: x\r\n\r\n");
        return $conn;
    };
    $get->('01', "/$_") for qw(shut inside refused missing unknown);
    $get->('02', '/app/silent');
    $get->('03', "/app/$_") for qw(dies short);
    $get->('04', "/app/$_") for qw(alien alien_id);
    $get->('05', "/app/$_") for qw(nohead cuthead badhead bighead);
    $get->('06', '/app/overloaded');
    $get->('07', '/app/role');
    $post->('08', '/max', 2000);
    $post->('08', '/limit', 2000);
    $get->('11', '/app/long');
    $get->('12', '/app/status');
    $get->('13', '/ht/a.x');
    $get->('13', '/expression', 'X-Where' => 'localhost');
    $get->('14', $_) for '/none.x', '/photo.jpg/x.php', '/own.php/x';
    $post->('16', '/space/long', 100_000);
    $get->('19', '/keeps/stray');
    $get->('24', '/param/long');
    $get->('31', '/app/long', Range => 'bytes=99999-');
    my $refused = Client->request($httpd->port,
        "CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n"
        . "Connection: close\r\n\r\n");
    $status{'32'}{ $refused->status } = 1;
    $get->('25', "/app/$_") for qw(file url);
    $get->('33', '/app/oddlength');
    $get->('34', '/app/noend');
    $get->('10', '/app/stderr');
    if ($php) {
        $get->('10', '/fpm/none.php');
        $post->('10', '/fpm/post.php', 3002);
    }
    my $slow = $open->('/space/big');
    $httpd->wait_for_log(qr/FCGI17/, 10);
    $slow->close;
    my $left = $open->('/app/held');
    $app{app}->wait_report('held');
    $left->reset;
    $httpd->wait_for_log(qr/FCGI09: .* $_/, 10)
        for qw(headers body);
    for my $name (qw(line turn)) {
        my $first = $open->("/$name/held");
        $app{$name}->wait_report('held');
        $get->('18', "/$name/long");
        $app{$name}->release('held');
        $first->read_response;
    }
    my $log = $httpd->error_log;
    $httpd->ok_healthy;
    return ($log, \%status);
}

# What mod_proxy_fastcgi says.
sub proxy_goes_wrong {
    my $httpd = Httpd->start(
        modules => [qw(proxy proxy_fastcgi)], config => <<'EOC');
ProxySourceAddress 127.0.0.3
ProxyRemote * http://127.0.0.1:1
ProxyPass /app fcgi://127.0.0.1:1/srv ping=1 iobuffersize=16384
ProxyPass /raw fcgi://127.0.0.1:2/srv nocanon
ProxyPass /off fcgi://127.0.0.1:3/off status=+D
<Location /app>
  ProxyFCGISetEnvIf "file('/etc/none/key') == 'x'" KEY x
</Location>
EOC
    is(Client->get($httpd->port, '/raw/a?b=c')->status, 403, 'a 403');
    is(Client->get($httpd->port, '/app')->status, 500, 'a 500');
    is(Client->get($httpd->port, '/off')->status, 503, 'a 503');
    my $log = $httpd->error_log;
    $httpd->ok_healthy;
    return $log;
}

# What is said when httpd does not start, or not as it was told, or a child of
# it ends.
sub do_not_start {
    my @said = map { (Httpd->configtest($_))[1] }
        'SetHandler fcgi:localhost', 'FcgiBackend /x queue=3';
    push @said, eval {
        Httpd->start(config => "Mutex file:/proc fcgi-backends\n");
        '';
    } // $@;
    my $httpd = Httpd->start(
        config => "Mutex flock:run default\nFcgiBackend localhost:1\n"
            . "FcgiBackend shop /x max=20 keepalive=5\n");
    unlink glob $httpd->root . '/run/fcgi-backends*';
    kill 'KILL', $httpd->pids;
    $httpd->wait_for_log(qr/FCGI22/, 10);
    push @said, $httpd->error_log;
    $httpd->stop;
    $httpd = Httpd->start(config => 'Mutex posixsem default');
    push @said, $httpd->error_log;
    $httpd->stop;
    push @said, (Httpd->configtest(modules => [qw(proxy proxy_fastcgi)],
                                   module => 0))[1], proxy_goes_wrong();
    return join "\n", @said;
}

subtest 'each example was really written' => sub {
    my ($log, $status) = go_wrong();
    my %written = map { $_ => 1 } entries($log . do_not_start());
    my %shown;
    for my $example (examples(qr/^FCGI|^The line|^PHP /)) {
        my ($title, $line) = @$example;
        ($shown{$1} = 1) if $line =~ /(FCGI\d\d):\s/;
        SKIP: {
            skip 'needs root', 1 if $> != 0 && $line =~ /ermission denied/;
            skip 'requests hold their threads here', 1 if $line =~ /FCGI36/
                && (!Httpd::can_park() || lc($ENV{PARK} // '') eq 'off');
            skip 'no php-fpm', 1 if $line =~ /Primary|POST Content-Length/
                && !PhpFpm::program();
            ok($written{ in_general($line) }, "$title: "
               . substr($line =~ s/\s+/ /gr, 0, 60))
                or diag in_general($line);
        }
    }
    # t/99-parked-restarts.t shows 35
    is(names(grep { !$shown{"FCGI$_"} } keys %id), names(15, 35),
       'all but two have an example');
    for my $id (sort keys %$status) {
        my $text = ($of{"FCGI$id"} || {})->{text} // '';
        like($text, qr/\b$_\b/, "FCGI$id says $_")
            for grep { $_ >= 400 } sort keys %{ $status->{$id} };
    }
    my ($table) = @{ $docs->{'docs/troubleshooting.rst'}{tables} };
    my %listed;
    for my $row (@{ $table->{rows} }) {
        my ($seen, $where) = map { $_->{text} } @$row;
        $listed{$_}{$seen} = 1 for $where =~ /FCGI(\d\d)/g;
    }
    for my $id (sort keys %$status) {
        for my $code (grep { $_ >= 400 } sort keys %{ $status->{$id} }) {
            ok(scalar(grep { /\b$code\b/ } keys %{ $listed{$id} || {} }),
               "$code leads to FCGI$id");
        }
    }
};

subtest 'a closer look' => sub {
    my ($section) = grep { $_->{title} eq 'A closer look' }
        sections('docs/troubleshooting.rst');
    my ($config) = map { $_->{text} }
        grep { @{ $_->{classes} } } @{ $section->{blocks} };
    my $httpd = Httpd->start(
        vars => { NET => $net->handler }, config => $config
            . "\n<Location />\nSetHandler \@NET\@\n</Location>\n");
    is(Client->get($httpd->port, $_)->status, 200, $_) for '/other', '/shop/x';
    my @told = grep { /^\[fastcgi_handler:trace/ } entries($httpd->error_log);
    is(join("\n", @told), join("\n", map { in_general($_->[1]) }
       examples(qr/^A closer look/)), 'the story, of one URL');
    $httpd->ok_healthy;
};

subtest 'without the module the source is shown' => sub {
    my $httpd = Httpd->start(module => 0, files => { 'a.php' => '<?php 1;' },
                             config => 'AddHandler fcgi:/run/x.sock .php');
    is(Client->get($httpd->port, '/a.php')->body, '<?php 1;', 'as it says');
    unlike($httpd->error_log, qr/fcgi:/, 'and nothing is logged');
    $httpd->ok_healthy;
};

# ---- recipes that no other test has ----

subtest 'Nextcloud: WebDAV behind a script' => sub {
    plan skip_all => 'no php-fpm here' if !PhpFpm::program();
    my $php = PhpFpm->start;
    my ($recipe) = grep { $_->{title} =~ /^Nextcloud/ }
        sections('docs/recipes.rst');
    my $text = $recipe->{blocks}[0]{text};
    my $script = '<?php echo $_SERVER["REQUEST_METHOD"], "|",
        $_SERVER["PATH_INFO"] ?? "-", "|",
        $_SERVER["HTTP_AUTHORIZATION"] ?? "-", "|",
        strlen(file_get_contents("php://input"));';
    my $httpd = Httpd->start(
        modules => \@ALL, vars => { PHP => $php->address },
        files => { 'remote.php' => $script, 'index.php' => $script },
        config => $text =~ s{/srv/cloud}{\@DOCROOT\@}r
            =~ s{/run/php/cloud\.sock}{\@PHP\@}r);
    my $answer = ask($httpd->port, 'x', method => 'PUT', chunked => 1,
                     path => '/remote.php/dav/files/ann/a%20b',
                     body => 'x' x 300_000,
                     field => "Authorization: Basic YTpi\r\n");
    is($answer->body, 'PUT|/dav/files/ann/a b|Basic YTpi|300000', 'an upload');
    is(ask($httpd->port, 'x', path => '/index.php/apps/files')->body,
       'GET|/apps/files|-|0', 'a page');
    $answer = ask($httpd->port, 'x', path => '/.well-known/caldav');
    is($answer->status, 301, 'a well-known URL');
    like($answer->header('Location'), qr{/remote\.php/dav/$});
    $httpd->ok_healthy;
};

subtest 'a cache for answers that say no time' => sub {
    my $config = join "\n", map { @{ row_of('nginx', $_)->[1]{literals} } }
        'fastcgi_cache_valid', 'location /news {';
    my $httpd = Httpd->start(
        modules => \@ALL, vars => { NET => $net->handler },
        config => "CacheRoot \@ROOT\@/tmp\n"
            . $config =~ s{(?=CacheEnable)}{SetHandler \@NET\@\n}r);
    my $before = $net->connections;
    is(ask($httpd->port, 'x', path => '/news/1')->status, 200, 'answered')
        for 1 .. 3;
    is($net->connections - $before, 1, 'asked once');
    $httpd->ok_healthy;
};

subtest 'two applications below each other' => sub {
    my ($recipe) = grep { $_->{title} =~ /^Several/ }
        sections('docs/recipes.rst');
    my $httpd = Httpd->start(
        config => localized($recipe->{blocks}[0]{text}));
    for my $case (['/x', $shop, ''], ['/api/x', $net, '/api']) {
        my ($path, $app, $script) = @$case;
        my $before = $app->connections;
        my $answer = ask($httpd->port, 'x', path => $path);
        is(look($answer, 'SCRIPT_NAME'), $script, $path);
        is($app->connections - $before, 1, 'by its application');
    }
    $httpd->ok_healthy;
};

sub recipe {
    my ($title) = @_;
    my ($recipe) = grep { $_->{title} eq $title } sections('docs/recipes.rst');
    return map { $_->{text} } grep { "@{ $_->{classes} }" =~ /apache/ }
        @{ $recipe->{blocks} };
}

subtest 'an application that owns the site' => sub {
    my $dir = Private::temp_dir('own');
    my $app = FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request(5) or return;
        my $url = $request->{params}{PATH_INFO};
        my %says = ('/404' => "Status: 404\r\n", '/accel' =>
                    "X-Accel-Redirect: /protected/report.txt\r\n",
                    '/news/1' => "Cache-Control: max-age=1\r\n"
                    . "ETag: \"a\"\r\n");
        $c->reply(($says{$url} // '') . "Content-Type: text/plain\r\n\r\n"
                  . "its own $url");
    });
    my $config = join "\n", (recipe('Downloads'))[-1], recipe('Error pages'),
        recipe('A cache'), 'FcgiConnectTimeout 200ms', '';
    $config =~ s{/srv/shop/files}{$dir}g;
    $config =~ s{fcgi:127\.0\.0\.1:3000}{\@APP\@}g;
    $config =~ s{/var/cache/apache2/mod_cache_disk}{\@ROOT\@/tmp};
    Private::spew("$dir/report.txt", 'a report');
    my $httpd = Httpd->start(modules => \@ALL, vars => { APP => $app->handler },
        files => { map { ("errors/$_.html" => "the site's $_") }
                   404, 500, 502 .. 504 }, config => $config);
    my $get = sub { (ask($httpd->port, 'x', path => $_[0])->body)[0] };
    is($get->('/x'), 'its own /x');
    is($get->('/404'), "the site's 404", 'error pages');
    is($get->('/accel'), 'a report', 'a download');
    is(ask($httpd->port, 'x', path => '/protected/report.txt')->status, 403);
    is($get->('/news/1'), 'its own /news/1', 'a page that is cached');
    $app->stop;
    is($get->('/x'), "the site's 503", 'when the application is not there');
    # it may be fresh for a second still
    ok(Private::wait_until(10, sub {
        my $answer = ask($httpd->port, 'x', path => '/news/1');
        return $answer->body eq 'its own /news/1'
            && ($answer->header('Warning') // '') =~ /^111 /;
    }), 'and the stale page');
    $httpd->ok_healthy;
};

subtest 'a host name with two addresses' => sub {
    my $httpd = Httpd->start(config => '<Location /x>' . "\nSetHandler "
        . 'fcgi:localhost:' . ($net->address =~ /(\d+)$/)[0]
        . "\n</Location>\n");
    is(Client->get($httpd->port, '/x')->status, 200,
       'the second one answers where the first one does not');
    $httpd->ok_healthy;
};

done_testing;
