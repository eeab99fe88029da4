# Every form of an address works wherever httpd takes a handler's name.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use IO::Socket::IP;
use Private;
use Socket qw(getaddrinfo getnameinfo SOCK_STREAM NI_NUMERICHOST);
use Test::More;

# A scripted application on the IPv6 loopback address.
package App6 {
    our @ISA = qw(FcgiApp);

    sub listener {
        my ($self) = @_;
        my $socket = IO::Socket::IP->new(
            LocalHost => '::1', LocalPort => $self->{port}->sockport,
            Listen => 128, ReuseAddr => 1, V6Only => 1) or die "::1: $@";
        $socket->blocking(0);
        return $socket;
    }

    sub address { return '[::1]:' . $_[0]{port}->sockport }
}

# Answers with a name, and which script it was asked for.
sub app_called {
    my ($name) = @_;
    return sub {
        my ($c) = @_;
        my $request = $c->read_request or return;
        my $params = $request->{params};
        $c->reply("Content-Type: text/plain\r\n\r\n$name "
                  . "$params->{SCRIPT_NAME}|" . ($params->{PATH_INFO} // ''));
    };
}

sub has_ipv6 {
    return !!IO::Socket::IP->new(LocalHost => '::1', LocalPort => 0,
                                 Listen => 1);
}

# httpd with this before the C library resolves two names more, each to two
# addresses: nobody listens on the first.
my $RESOLVER = <<'EOC';
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>

typedef int resolver(const char *, const char *, const struct addrinfo *,
                     struct addrinfo **);

int getaddrinfo(const char *node, const char *service,
                const struct addrinfo *hints, struct addrinfo **result)
{
    resolver *resolve = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    const char *first = "127.0.0.2", *second = "127.0.0.1";
    struct addrinfo *end;
    int rv;

    if (node && !strcmp(node, "second-is-v6.test")) {
        first = "127.0.0.1";
        second = "::1";
    }
    else if (!node || strcmp(node, "second-is-v4.test")) {
        return resolve(node, service, hints, result);
    }
    rv = resolve(first, service, hints, result);
    if (rv) {
        return rv;
    }
    for (end = *result; end->ai_next; end = end->ai_next) {
    }
    return resolve(second, service, hints, &end->ai_next);
}
EOC

my $build = Private::temp_dir('resolver');
my $source = Private::spew("$build/resolver.c", $RESOLVER);
my ($status, $output) = Private::run(
    $ENV{CC} || 'cc', qw(-shared -fPIC -o), "$build/resolver.so", $source,
    '-ldl');
die $output if $status;

# Upper case, because httpd lower-cases the names of handlers on some ways.
my $dir = Private::temp_dir('Mixed-Case');
my $unix = FcgiApp->start(app_called('unix'), transport => 'unix',
                          socket => "$dir/The App.Sock");
my $plain = FcgiApp->start(app_called('plain'), transport => 'unix',
                           socket => "$dir/Plain.Sock");
my $tcp = FcgiApp->start(app_called('tcp'), transport => 'tcp');
my $six = has_ipv6() ? App6->start(app_called('six'), transport => 'tcp')
    : undef;
diag 'no ::1 on this machine: addresses of IPv6 are not tested' if !$six;
my ($port) = $tcp->address =~ /(\d+)\z/;

# form => [the handler's name, the application it means]
my %forms = (
    path => ['fcgi:' . $plain->address, 'plain'],
    space => ['fcgi:' . $unix->address, 'unix'],
    unix => ['fcgi:unix:' . $plain->address, 'plain'],
    capitals => ['FCGI:Unix:' . $plain->address, 'plain'],
    tcp => ["fcgi:127.0.0.1:$port", 'tcp'],
    url => ["fcgi://127.0.0.1:$port", 'tcp'],
    name => ["fcgi:localhost:$port", 'tcp'],
    host => ["fcgi:LocalHost:$port", 'tcp'],
    nexttry => ["fcgi:second-is-v4.test:$port", 'tcp'],
    $six ? (
        six => ['fcgi:' . $six->address, 'six'],
        sixurl => ['fcgi://' . $six->address, 'six'],
        nextsix => ['fcgi:second-is-v6.test:' . $six->{port}->sockport,
                    'six'],
    ) : (),
);

# way => [configuration, URL, SCRIPT_NAME|PATH_INFO, files].  ADDRESS is the
# handler's name, HEAD and TAIL are its two halves, FORM is what it is called
# above.  Without files, the URL is one.
my %ways = (
    AddHandler => ['AddHandler "ADDRESS" .FORM', '/a.FORM', '/a.FORM|'],
    Files => [<<'EOC', '/files-FORM.x', '/files-FORM.x|'],
<Files files-FORM.x>
  SetHandler "ADDRESS"
</Files>
EOC
    FilesMatch => [<<'EOC', '/match-FORM.x', '/match-FORM.x|'],
<FilesMatch "^match-FORM\.x$">
  SetHandler "ADDRESS"
</FilesMatch>
EOC
    If => [<<'EOC', '/if-FORM.x', '/if-FORM.x|'],
<If "%{REQUEST_URI} == '/if-FORM.x'">
  SetHandler "ADDRESS"
</If>
EOC
    Location => [<<'EOC', '/loc-FORM/more', '/loc-FORM|/more', {}],
<Location /loc-FORM>
  SetHandler "ADDRESS"
</Location>
EOC
    LocationMatch => [<<'EOC', '/lm-FORM/more', '/lm-FORM|/more', {}],
<LocationMatch ^/lm-FORM/>
  SetHandler "ADDRESS"
</LocationMatch>
EOC
    Directory => [<<'EOC', '/dir-FORM/a.x', '/dir-FORM/a.x|'],
<Directory @DOCROOT@/dir-FORM>
  SetHandler "ADDRESS"
</Directory>
EOC
    'RewriteRule, H' => [
        'RewriteRule ^/from-FORM$ /to-FORM.x "[PT,H=ADDRESS]"',
        '/from-FORM', '/to-FORM.x|', { 'to-FORM.x' => '' }],
    'RewriteRule, handler' => [
        'RewriteRule ^/long-FORM\.x$ - "[L, handler=ADDRESS]"',
        '/long-FORM.x', '/long-FORM.x|'],
    'RewriteRule in a Directory' => [<<'EOC', '/rw-FORM/a.x', '/rw-FORM/a.x|'],
<Directory @DOCROOT@/rw-FORM>
  RewriteEngine On
  RewriteRule ^a\.x$ - "[H=ADDRESS]"
</Directory>
EOC
    Action => [<<'EOC', '/a.act-FORM', '/act-FORM|/a.act-FORM'],
AddHandler act-FORM .act-FORM
Action act-FORM /act-FORM
<Location /act-FORM>
  SetHandler "ADDRESS"
</Location>
EOC
    'an expression' => [<<'EOC', '/expr-FORM.x', '/expr-FORM.x|'],
SetEnvIf Request_URI ^/expr-FORM "BACKEND=ADDRESS"
<Files expr-FORM.x>
  SetHandler %{reqenv:BACKEND}
</Files>
EOC
    'partly an expression' => [<<'EOC', '/part-FORM/x', '/part-FORM|/x', {}],
SetEnvIf Request_URI ^/part-FORM "TAIL=TAIL"
<Location /part-FORM>
  SetHandler "HEAD%{reqenv:TAIL}"
</Location>
EOC
    '.htaccess, SetHandler' => ['', '/hts-FORM/a.x', '/hts-FORM/a.x|', {
        'hts-FORM/a.x' => '',
        'hts-FORM/.htaccess' => 'SetHandler "ADDRESS"' }],
    '.htaccess, AddHandler' => ['', '/hta-FORM/a.x', '/hta-FORM/a.x|', {
        'hta-FORM/a.x' => '',
        'hta-FORM/.htaccess' => 'AddHandler "ADDRESS" .x' }],
    '.htaccess, Files' => ['', '/htf-FORM/a.x', '/htf-FORM/a.x|', {
        'htf-FORM/a.x' => '',
        'htf-FORM/.htaccess' => <<'EOC' }],
<Files a.x>
  SetHandler "ADDRESS"
</Files>
EOC
    '.htaccess, RewriteRule' => ['', '/htr-FORM/a.x', '/htr-FORM/a.x|', {
        'htr-FORM/a.x' => '',
        'htr-FORM/.htaccess' => <<'EOC' }],
RewriteEngine On
RewriteRule ^a\.x$ - "[H=ADDRESS]"
EOC
);

my (@config, %files, %cases);
for my $form (sort keys %forms) {
    my ($address, $app) = @{ $forms{$form} };
    my ($head, $tail) = $address =~ /^(\w+:)(.*)/;
    my $fill = sub {
        return $_[0] =~ s/FORM/$form/gr =~ s/ADDRESS/$address/gr
            =~ s/=TAIL/=$tail/r =~ s/HEAD/$head/r;
    };
    for my $way (sort keys %ways) {
        my ($config, $url, $answer, $files) = @{ $ways{$way} };
        $files ||= { substr($url, 1) => 'the text of the file' };
        push @config, $fill->($config);
        $files{ $fill->($_) } = $fill->($files->{$_}) for keys %$files;
        push @{ $cases{$way} },
            [$form, $fill->($url), "$app " . $fill->($answer)];
    }
}

$files{"run-time-$_.x"} = 'text' for 1 .. 2;
my $httpd = Httpd->start(
    modules => [qw(rewrite actions)], files => \%files,
    env => { LD_PRELOAD => join ' ', $ENV{HTTPD_PRELOAD} // (),
                 "$build/resolver.so" },
    config => join("\n", 'RewriteEngine On', 'FcgiAllow Configured', @config,
                   <<'EOC'));

<FilesMatch "^run-time">
  SetHandler "fcgi:%{HTTP:X-Address}"
</FilesMatch>
<Location /run-time>
  SetHandler "fcgi:%{HTTP:X-Address}"
</Location>
EOC

for my $way (sort keys %cases) {
    subtest $way => sub {
        for my $case (@{ $cases{$way} }) {
            my ($form, $url, $expected) = @$case;
            my $answer = Client->get($httpd->port, $url);
            is($answer->status . ' ' . $answer->body, "200 $expected",
               "$form: $forms{$form}[0]");
        }
    };
}

subtest 'localhost, whichever of its addresses answers' => sub {
    my (undef, @found) = getaddrinfo('localhost', '',
                                     { socktype => SOCK_STREAM });
    my %listening = ('127.0.0.1' => $tcp, $six ? ('::1' => $six) : ());
    for my $found (@found) {
        my (undef, $ip) = getnameinfo($found->{addr}, NI_NUMERICHOST);
        my $app = $listening{$ip} or next;
        my $answer = Client->get(
            $httpd->port, '/run-time',
            'X-Address' => 'localhost:' . $app->{port}->sockport);
        is($answer->body, ($app == $tcp ? 'tcp' : 'six') . ' /run-time|',
           "only $ip listens");
    }
};

# address => what the log says
my @WRONG = (
    ['' => qr/the address is empty; write fcgi:/],
    ['127.0.0.1' => qr/names no port; write fcgi:/],
    ['127.0.0.1:' => qr/not a port; write a number from 1 to 65535/],
    ['127.0.0.1:0' => qr/'0' is not a port; write a number/],
    ['127.0.0.1:65536' => qr/'65536' is not a port; write a number/],
    ['127.0.0.1:99999999999999999999' => qr/is not a port; write a number/],
    ["127.0.0.1:$port/x" => qr/'$port\/x' is not a port; write a number/],
    ["127.0.0.1:+$port" => qr/'\+$port' is not a port/],
    [":$port" => qr/is not a host; write fcgi:/],
    ["a b:$port" => qr/is not a host; write fcgi:/],
    ["::1:$port" => qr/is not a (?:host|port); write/],
    ["[::1]$port" => qr/names no port; write fcgi:/],
    ["[::1:$port" => qr/names no port; write fcgi:/],
    ["http://127.0.0.1:$port" => qr/has an unknown scheme; write fcgi:/],
    ['/' => qr/not the absolute path of a socket; write fcgi:\/path/],
    ['unix:run/app.sock' => qr/not the absolute path of a socket; write/],
    ['run/app.sock' => qr/names no port; write fcgi:\/path\/to\/socket/],
    ["127.0.0.1:$port|fcgi://localhost" =>
        qr/as for mod_proxy; write fcgi:127\.0\.0\.1:$port$/],
    [$plain->address . '|fcgi://localhost' =>
        qr/as for mod_proxy; write fcgi:\Q@{[ $plain->address ]}\E$/],
    ['/' . 'x' x 107 => qr/has 108 bytes, the system takes 107 at most/],
);

for my $place ('/run-time', '/run-time-1.x') {
    subtest "a wrong address at run time, $place" => sub {
        for my $case (@WRONG) {
            my ($address, $words) = @$case;
            my $before = $httpd->error_log;
            my $answer = Client->get($httpd->port, $place,
                                     'X-Address' => $address);
            is($answer->status, 500, "500 for '$address'");
            my $log = substr $httpd->error_log, length $before;
            my @lines = split /\n/, $log;
            is(scalar @lines, 1, 'one line in the log') or diag $log;
            like($lines[0] // '', qr/:error\].*FCGI13: handler 'fcgi:/,
                 'with its id');
            like($lines[0] // '', $words, 'and what to write');
        }
    };
}

subtest 'a wrong address in .htaccess' => sub {
    for my $way ('SetHandler fcgi:localhost', 'AddHandler fcgi:localhost .x',
                 'RewriteRule . - [H=fcgi:localhost]') {
        $httpd->write('wrong/.htaccess', "RewriteEngine On\n$way");
        $httpd->write('wrong/a.x', 'the text of the file');
        my $before = $httpd->error_log;
        is(Client->get($httpd->port, '/wrong/a.x')->status, 500, $way);
        my @lines = split /\n/, substr $httpd->error_log, length $before;
        is(scalar @lines, 1, 'one line in the log');
        like($lines[0] // '', qr/FCGI13: .*'localhost' names no port, and/,
             'with what to write');
    }
};

subtest "mod_proxy's spelling, pasted into .htaccess" => sub {
    my $pasted = $plain->address . '|fcgi://localhost';
    for my $way (qq(SetHandler "fcgi:$pasted"), qq(AddHandler "fcgi:$pasted" .x),
                 qq(SetHandler "fcgi:@{[ $plain->address ]} "),
                 qq(SetHandler " fcgi:@{[ $plain->address ]}"),
                 qq(AddHandler " fcgi:@{[ $plain->address ]}" .x),
                 qq(SetHandler "%{reqenv:NONE} fcgi:@{[ $plain->address ]}")) {
        $httpd->write('wrong/.htaccess', $way);
        my $before = $httpd->error_log;
        my $answer = Client->get($httpd->port, '/wrong/a.x');
        is($answer->status, 500, $way);
        unlike($answer->body, qr/the text of the file/, 'and no source');
        like(substr($httpd->error_log, length $before),
             qr/FCGI13: .*; write fcgi:\Q@{[ $plain->address ]}\E$/mi,
             'with what to write');
    }
};

subtest 'a handler of mod_proxy is left to mod_proxy' => sub {
    my $both = Httpd->start(
        modules => [qw(proxy proxy_fcgi)],
        vars => { SOCKET => $plain->address, OURS => $tcp->handler },
        files => { 'a.php' => '', 'b.php' => '', 'ht/a.x' => '',
                   'ht/.htaccess' => 'SetHandler "proxy:unix:'
                       . $plain->address . '|fcgi://localhost"' },
        config => <<'EOC');
<Files a.php>
  SetHandler "proxy:unix:@SOCKET@|fcgi://localhost"
</Files>
<Files b.php>
  SetHandler @OURS@
</Files>
EOC
    my %who = ('/a.php' => 'plain', '/ht/a.x' => 'plain', '/b.php' => 'tcp');
    is(Client->get($both->port, $_)->body, "$who{$_} $_|", $_)
        for sort keys %who;
    unlike($both->error_log, qr/fastcgi_handler:(?:error|warn)/,
           'and we say nothing');
    $both->ok_healthy;
};

subtest 'the longest path that fits' => sub {
    my $room = 107 - length "$dir/";
    my $long = FcgiApp->start(app_called('long'), transport => 'unix',
                              socket => "$dir/" . 'X' x $room);
    for my $place ('/run-time', '/run-time-1.x') {
        my $answer = Client->get($httpd->port, $place,
                                 'X-Address' => $long->address);
        like($answer->body, qr/^long /, "107 bytes, $place");
    }
};

$httpd->ok_healthy;
done_testing;
