# A .htaccess file names no application but its own, unless FcgiAllow says so.
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
use Test::More;

# Stopped all at once at the end, as each takes a second.
my @servers;

# httpd with this before the C library says in its error log which names it
# asks for, and knows those that end in .test.
my $RESOLVER = <<'EOC';
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

typedef int resolver(const char *, const char *, const struct addrinfo *,
                     struct addrinfo **);

int getaddrinfo(const char *node, const char *service,
                const struct addrinfo *hints, struct addrinfo **result)
{
    resolver *resolve = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");

    fprintf(stderr, "asked for %s\n", node ? node : "nothing");
    return resolve(node && strstr(node, ".test") ? "127.0.0.1" : node,
                   service, hints, result);
}
EOC

my $build = Private::temp_dir('resolver');
my $source = Private::spew("$build/resolver.c", $RESOLVER);
my ($failed, $output) = Private::run(
    $ENV{CC} || 'cc', qw(-shared -fPIC -o), "$build/resolver.so", $source,
    '-ldl');
die $output if $failed;
my %env = (LD_PRELOAD => join ' ', $ENV{HTTPD_PRELOAD} // (),
               "$build/resolver.so");

# A capital letter, which httpd does not keep for AddHandler and RewriteRule.
my $dir = Private::temp_dir('Origin');
my $run = "$dir/run";
mkdir $_, 0755 for $run, "$run/deep", "$run/.hidden";

sub app_called {
    my ($name, %opt) = @_;
    return FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request or return;
        $c->reply("Content-Type: text/plain\r\n\r\n$name "
                  . $request->{params}{SCRIPT_NAME});
    }, %opt);
}

sub app_at {
    my ($name, $path) = @_;
    return app_called($name, transport => 'unix', socket => $path);
}

# $other is what .htaccess files want and nobody named.  t/29-trust.t has the
# ways that do not name an address.
my $known = app_at('known', "$run/known.sock");
my $other = app_at('other', "$run/other.sock");
my $net = app_called('net', transport => 'tcp');
my ($port) = $net->address =~ /(\d+)\z/;

# way => [.htaccess, file and URL, what else is there].  ADDRESS is the
# handler's name.  Below a folder of its own, /WAY.
my %ways = (
    SetHandler => ['SetHandler "ADDRESS"', 'a.x'],
    'SetHandler, nested' => ['SetHandler "ADDRESS"', 'one/two/a.x'],
    'SetHandler, inner' => ['', 'in/a.x', {
        'in/a.x' => 'text', 'in/.htaccess' => 'SetHandler "ADDRESS"' }],
    AddHandler => ['AddHandler "ADDRESS" .x', 'a.x'],
    'AddHandler, two names' => ['AddHandler "ADDRESS" .x', 'a.x.txt'],
    AddType => ['AddType "ADDRESS" .x', 'a.x'],
    ForceType => ['ForceType "ADDRESS"', 'a.x'],
    'expression' => ['SetHandler "%{HTTP:X-Address}"', 'a.x'],
    'partly an expression' => ['SetHandler "fcgi:%{HTTP:X-Rest}"', 'a.x'],
    'expression of a variable' => [
        qq(SetEnvIf Host . "TO=ADDRESS"\nSetHandler "%{reqenv:TO}"), 'a.x'],
    RewriteRule => ['RewriteRule ^a - "[H=ADDRESS]"', 'a.x'],
    'RewriteRule, long' => ['RewriteRule ^a - "[L,handler=ADDRESS]"', 'a.x'],
    'RewriteRule, variable' => [
        'RewriteRule ^a - "[H=%{HTTP:X-Address}]"', 'a.x'],
    'RewriteRule, then another' => [
        'RewriteRule ^c b/a.x [L]', 'c', {
            'b/a.x' => 'text', 'b/.htaccess' => 'SetHandler "ADDRESS"' }],
    Files => ["<Files a.x>\nSetHandler \"ADDRESS\"\n</Files>", 'a.x'],
    FilesMatch => ["<FilesMatch ^a>\nSetHandler \"ADDRESS\"\n</FilesMatch>",
                   'a.x'],
    'Files, AddHandler' => [
        "<Files a.*>\nAddHandler \"ADDRESS\" .x\n</Files>", 'a.x'],
    If => ["<If true>\nSetHandler \"ADDRESS\"\n</If>", 'a.x'],
    Else => ["<If false>\n</If>\n<Else>\nSetHandler \"ADDRESS\"\n</Else>",
             'a.x'],
    'If in Files' => ["<Files a.x>\n<If true>\nSetHandler \"ADDRESS\"\n"
                      . "</If>\n</Files>", 'a.x'],
    'If in If' => ["<If true>\n<If true>\nSetHandler \"ADDRESS\"\n</If>\n"
                   . '</If>', 'a.x'],
    'If, AddHandler' => ["<If true>\nAddHandler \"ADDRESS\" .x\n</If>",
                         'a.x'],
    Limit => ["<Limit GET>\nSetHandler \"ADDRESS\"\n</Limit>", 'a.x'],
    DirectoryIndex => [
        qq(DirectoryIndex a.x\n<Files a.x>\nSetHandler "ADDRESS"\n</Files>),
        '', { 'a.x' => 'text' }],
    'DirectoryIndex, AddHandler' => [
        qq(DirectoryIndex a.x\nAddHandler "ADDRESS" .x), '',
        { 'a.x' => 'text' }],
    FallbackResource => [
        qq(FallbackResource /WAY/a.x\nAddHandler "ADDRESS" .x), 'none',
        { 'a.x' => 'text' }],
    Action => ["AddHandler own .y\nAction own /WAY/a.x\n"
               . 'AddHandler "ADDRESS" .x', 'b.y', {
                   'a.x' => 'text', 'b.y' => 'y' }],
    'include virtual' => [
        "Options +Includes\nAddOutputFilter INCLUDES .shtml\n"
        . 'AddHandler "ADDRESS" .x', 'page.shtml', {
            'page.shtml' => '<!--#include virtual="a.x" -->',
            'a.x' => 'text' }],
);

# The folder of a way and an address.
sub place { return lc join '-', map { s/\W+/-/gr } @_ }

sub fill {
    my ($text, $address, $place) = @_;
    return $text =~ s/ADDRESS/$address/gr =~ s/WAY/$place/gr;
}

# The files of all ways for these addresses.
sub files {
    my (@addresses) = @_;
    my %files;
    for my $way (keys %ways) {
        my ($htaccess, $url, $more) = @{ $ways{$way} };
        for my $i (0 .. $#addresses) {
            my $place = place($way, $i);
            my %here = ('.htaccess' => "RewriteEngine On\n$htaccess",
                        $more ? %$more : ($url => 'the text of the file'));
            $files{"$place/$_"} = fill($here{$_}, $addresses[$i], $place)
                for keys %here;
        }
    }
    return \%files;
}

sub answer {
    my ($httpd, $way, $i, $address, @fields) = @_;
    my ($rest) = $address =~ /^fcgi:(.*)/;
    return Client->get($httpd->port, '/' . place($way, $i) . '/'
                       . $ways{$way}[1], @fields,
                       'X-Address' => $address, 'X-Rest' => $rest);
}

# What is new in the log, but for what other modules say of it.
sub new_lines {
    my ($httpd, $before) = @_;
    return grep { !/\[(?:include|mime):/ }
        split /\n/, substr $httpd->error_log, length $before;
}

sub check_refused {
    my ($httpd, $way, $i, $address, $to_write, @fields) = @_;
    my $before = $httpd->error_log;
    my $answer = answer($httpd, $way, $i, $address, @fields);
    $to_write //= $address =~ s/^fcgi://r;
    if ($way =~ /include/) {
        like($answer->body, qr/an error occurred/, "$address: no answer");
    }
    else {
        is($answer->status, 500, "$address: 500");
    }
    my @lines = new_lines($httpd, $before);
    is(scalar @lines, 1, 'one line in the log') or diag join "\n", @lines;
    like($lines[0] // '', qr/:error\].*FCGI13:\ handler\ '\Q$address\E':
         \ refused,\ as\ the\ server's\ own\ configuration\ does\ not\ give
         \ this\ request\ that\ address;\ "FcgiAllow\ \Q$to_write\E"
         \ would\ admit\ it/xi, 'which says why, and what to write');
    return;
}

my @modules = qw(rewrite actions include);
my @strange = ('fcgi:' . $other->address, "fcgi:127.0.0.1:$port",
               "fcgi:unnamed.test:$port");
my @named = ("fcgi:$run/known.sock", 'fcgi:shop');

subtest 'what the server names elsewhere, or nowhere' => sub {
    my $files = files(@strange, @named);
    my $httpd = Httpd->start(
        modules => \@modules, env => \%env, files => $files,
        vars => { KNOWN => $known->handler }, config => <<'EOC');
FcgiBackend shop @KNOWN@
<Files nowhere>
  SetHandler @KNOWN@
</Files>
EOC
    for my $way (sort keys %ways) {
        subtest $way => sub {
            check_refused($httpd, $way, $_, $strange[$_])
                for 0 .. $#strange;
            check_refused($httpd, $way, @strange + $_, $named[$_], 'shop')
                for 0 .. $#named;
        };
    }
    is($_->connections, 0, $_->address . ' was never asked')
        for $other, $net, $known;
    unlike($httpd->error_log, qr/asked for \S*unnamed/, 'nor any resolver');
    push @servers, $httpd;
};

subtest 'the same with all of them named, and FcgiAllow Configured' => sub {
    my $httpd = Httpd->start(
        modules => \@modules, env => \%env, files => files(@strange),
        vars => { OTHER => $other->handler, NET => $strange[1],
                  NAME => $strange[2] }, config => <<'EOC');
<VirtualHost *>
  ServerName elsewhere
  <Directory /none>
    <Files nowhere>
      SetHandler @OTHER@
    </Files>
  </Directory>
  AddHandler @NET@ .none
  RewriteRule none - [H=@NAME@]
</VirtualHost>
<VirtualHost *>
  ServerName localhost
  FcgiAllow Configured
</VirtualHost>
<VirtualHost *>
  ServerName closed
  FcgiAllow None
</VirtualHost>
EOC
    for my $way (sort keys %ways) {
        is(join(' ', map { answer($httpd, $way, $_, $strange[$_])->body
                               =~ s/ .*//r } 0 .. $#strange),
           'other net net', $way);
    }
    my @before = map { $_->connections } $other, $net;
    for my $way (sort keys %ways) {
        check_refused($httpd, $way, $_, $strange[$_], undef,
                      Host => 'closed') for 0 .. $#strange;
    }
    is(join(' ', map { $_->connections } $other, $net), "@before",
       'FcgiAllow None closes again');
    like($httpd->error_log, qr/asked for unnamed\.test/,
         'a question to the resolver is seen');
    push @servers, $httpd;
};

subtest 'one address in many spellings' => sub {
    symlink $run, "$dir/link" or die;
    my $httpd = Httpd->start(
        files => { 'a/a.x' => '' }, vars => { KNOWN => $known->handler },
        config => "FcgiAllow Configured\n<Location /none>\n"
            . "SetHandler \@KNOWN@\n</Location>");
    for my $name ("fcgi:unix:$run/known.sock", "FCGI:$run/known.sock",
                  "fcgi:$dir/link/known.sock") {
        $httpd->write('a/.htaccess', "SetHandler $name");
        is(Client->get($httpd->port, '/a/a.x')->body, 'known /a/a.x', $name);
    }
    for my $name ("fcgi:$run/KNOWN.sock", "fcgi:$run/known.sock2",
                  "fcgi:$run/known.soc", 'fcgi:shop:1') {
        $httpd->write('a/.htaccess', "SetHandler $name");
        is(Client->get($httpd->port, '/a/a.x')->status, 500, $name);
    }
    push @servers, $httpd;
};

subtest 'what FcgiBackend alone names' => sub {
    my $capital = app_at('capital', "$run/Capital.sock");
    my $httpd = Httpd->start(
        modules => ['rewrite'], files => { 'a/a.x' => '' },
        config => 'FcgiBackend ' . $capital->address
            . "\nFcgiAllow Configured");
    for my $way ('SetHandler ADDRESS', 'AddHandler ADDRESS .x',
                 "RewriteEngine On\nRewriteRule . - [H=ADDRESS]") {
        $httpd->write('a/.htaccess',
                      $way =~ s/ADDRESS/'fcgi:' . $capital->address/er);
        is(Client->get($httpd->port, '/a/a.x')->body, 'capital /a/a.x', $way);
    }
    push @servers, $httpd;
};

# Sections of the server's own files, with an address that only a request has.
my %sections = (
    'no section' => "H\n",
    Directory => '<Directory @DOCROOT@>H</Directory>',
    DirectoryMatch => '<DirectoryMatch docs>H</DirectoryMatch>',
    'a Directory with wildcards' => '<Directory @ROOT@/d*>H</Directory>',
    Files => '<Files a.x>H</Files>',
    FilesMatch => '<FilesMatch x$>H</FilesMatch>',
    'Files in Directory' => '<Directory @DOCROOT@><Files a.x>H</Files>'
        . '</Directory>',
    Location => '<Location />H</Location>',
    LocationMatch => '<LocationMatch x$>H</LocationMatch>',
    If => '<If true>H</If>',
    Else => '<If false></If><Else>H</Else>',
    'If in Directory' => '<Directory @DOCROOT@><If true>H</If></Directory>',
    'If in Files' => '<Files a.x><If true>H</If></Files>',
    'If in Files in Directory' => '<Directory @DOCROOT@><Files a.x><If true>'
        . 'H</If></Files></Directory>',
    'If in Location' => '<Location /><If true>H</If></Location>',
    'If in If' => '<If true><If true>H</If></If>',
);

subtest "an expression in the server's own files" => sub {
    my $hosts = '';
    my @names = sort keys %sections;
    for my $i (0 .. $#names) {
        my $section = $sections{ $names[$i] };
        $section =~ s/(<(?!\/)[^>]*>|H|<\/[^>]*>)/$1\n/g;
        $section =~ s/^H$/SetHandler "fcgi:%{HTTP:X-Rest}"/m;
        $hosts .= "<VirtualHost *>\nServerName host$i\n$section\n"
            . "</VirtualHost>\n";
    }
    my $httpd = Httpd->start(
        files => { 'a.x' => 'text', 'own/a.x' => 'text',
                   'own/.htaccess' => 'SetHandler "fcgi:%{HTTP:X-Rest}"' },
        config => $hosts . <<'EOC');
<VirtualHost *>
  ServerName elsewhere
</VirtualHost>
EOC
    for my $i (0 .. $#names) {
        is(Client->get($httpd->port, '/a.x', Host => "host$i",
                       'X-Rest' => $other->address)->body =~ s/ .*//r,
           'other', $names[$i]);
    }
    for my $host (grep { $names[$_] =~ /^(?:no section|Directory)$/ }
                  0 .. $#names) {
        is(Client->get($httpd->port, '/own/a.x', Host => "host$host",
                       'X-Rest' => $other->address)->body =~ s/ .*//r,
           'other', "the same words in .htaccess change nothing, "
               . $names[$host]);
    }
    my $before = $other->connections;
    is(Client->get($httpd->port, '/own/a.x', Host => 'elsewhere',
                   'X-Rest' => $other->address)->status, 500,
       'the same words in .htaccess, another virtual host');
    is($other->connections, $before, 'nobody was asked');
    push @servers, $httpd;
};

# [patterns, address, whether it is admitted]
my $R = $run;
my @patterns = (
    ["$R/other.sock", "fcgi:$R/other.sock", 1],
    ["$R/*.sock", "fcgi:$R/other.sock", 1],
    ["$R/o?her.sock", "fcgi:$R/other.sock", 1],
    ["$R/[no]ther.sock", "fcgi:$R/other.sock", 1],
    ["fcgi:$R/*.sock", "fcgi:$R/other.sock", 1],
    ["unix:$R/*.sock", "fcgi:$R/other.sock", 1],
    ["$R/*.sock", "fcgi:unix:$R/other.sock", 1],
    ["/none 127.0.0.1:* $R/*.sock", "fcgi:$R/other.sock", 1],
    ["$dir/*/other.sock", "fcgi:$R/other.sock", 1],
    ["$R/*.sock", "fcgi:$R/deep/other.sock", 0],
    ["$R/*", "fcgi:$R/deep/other.sock", 0],
    ["$dir/*", "fcgi:$R/other.sock", 0],
    ["$R/deep/*/other.sock", "fcgi:$R/deep/../other.sock", 0],
    ["$R/deep*other.sock", "fcgi:$R/deep/../other.sock", 0],
    ["$R/deep/?\?/other.sock", "fcgi:$R/deep/../other.sock", 0],
    ["$R/deep[/]..[/]other.sock", "fcgi:$R/deep/../other.sock", 0],
    ["$R/*.sock", "fcgi:$R/.sock", 0],
    ["$R/OTHER.sock", "fcgi:$R/other.sock", 0],
    ["$R/other", "fcgi:$R/other.sock", 0],
    ["$R/other.sockets", "fcgi:$R/other.sock", 0],
    ["*:$port", "fcgi:$R/other.sock", 0],
    ["127.0.0.1:$port", "fcgi:127.0.0.1:$port", 1],
    ['127.0.0.1:*', "fcgi:127.0.0.1:$port", 1],
    ["*:$port", "fcgi:127.0.0.1:$port", 1],
    ["*:$port", "fcgi:some.test:$port", 1],
    ['*.test:*', "fcgi:some.test:$port", 1],
    ['Some.Test:*', "fcgi:some.test:$port", 1],
    ['*.test:*', "fcgi:Some.TEST:$port", 1],
    ['//127.0.0.1:*', "fcgi://127.0.0.1:$port", 1],
    ['127.0.0.1:*', "fcgi://127.0.0.1:$port", 1],
    ['127.0.0.1:*', "fcgi:unnamed.test:$port", 0],
    ['127.0.0.1:1', "fcgi:127.0.0.1:$port", 0],
    ['127.0.0.1:*', "fcgi:127.1:$port", 1],
    ['/*', "fcgi:127.0.0.1:$port", 0],
    ['None', "fcgi:127.0.0.1:$port", 0],
);

subtest 'FcgiAllow' => sub {
    my ($config, %files) = ('');
    for my $i (0 .. $#patterns) {
        my ($allow, $address) = @{ $patterns[$i] };
        my @words = map { "\"$_\"" } split ' ', $allow;
        $config .= "<Directory \@DOCROOT@/p$i>\nFcgiAllow @words\n"
            . "</Directory>\n";
        $files{"p$i/a.x"} = 'text';
        $files{"p$i/.htaccess"} = "SetHandler \"$address\"";
    }
    my $httpd = Httpd->start(env => \%env, files => \%files,
                             config => $config);
    for my $i (0 .. $#patterns) {
        my ($allow, $address, $admitted) = @{ $patterns[$i] };
        my $before = $httpd->error_log;
        my $answer = Client->get($httpd->port, "/p$i/a.x");
        my $name = "$allow, $address"
            . ($admitted ? '' : ' is not admitted');
        if ($admitted) {
            is($answer->body,
               ($address =~ /sock$/ ? 'other' : 'net') . " /p$i/a.x", $name);
        }
        else {
            is($answer->status, 500, $name);
            my @lines = new_lines($httpd, $before);
            ok(@lines == 1
                   && $lines[0] =~ /FCGI13: .*"FcgiAllow .* would admit/,
               'one line') or diag join "\n", @lines;
        }
    }
    unlike($httpd->error_log, qr/asked for unnamed/, 'no resolver asked');
    push @servers, $httpd;
};

subtest 'FcgiAllow, IPv6' => sub {
    my $six = IO::Socket::IP->new(LocalHost => '::1', LocalPort => 0,
                                  Listen => 5);
    plan skip_all => 'no ::1 here' if !$six;
    my $six_port = $six->sockport;
    my $httpd = Httpd->start(
        files => { 'a/a.x' => 'text', 'b/a.x' => 'text',
                   'a/.htaccess' => "SetHandler fcgi:[::1]:$six_port",
                   'b/.htaccess' => "SetHandler fcgi:[::1]:$six_port" },
        config => <<"EOC");
FcgiTimeout 100ms
FcgiAllow "[::1]:*"
<Directory \@DOCROOT@/b>
  FcgiAllow "\\\\[::1\\\\]:*"
</Directory>
EOC
    is(Client->get($httpd->port, '/a/a.x')->status, 504,
       '[::1]:* as it is written everywhere else');
    is(Client->get($httpd->port, '/b/a.x')->status, 504,
       'with backslashes');
    push @servers, $httpd;
};

subtest 'FcgiAllow of the innermost place' => sub {
    my %files = map { ("$_/a.x" => 'text',
                       "$_/.htaccess" => 'SetHandler @OTHER@') }
        qw(out out/in out/none out/none/in deny);
    $files{'ht/a.x'} = 'text';
    $files{'ht/.htaccess'} = 'FcgiAllow /*';
    my $httpd = Httpd->start(
        files => \%files,
        vars => { OTHER => $other->handler, R => $run }, config => <<'EOC');
FcgiAllow @R@/*.sock
<Directory @DOCROOT@/out/none>
  FcgiAllow None
</Directory>
<Directory @DOCROOT@/out/none/in>
  FcgiAllow 127.0.0.1:* @R@/other.sock
</Directory>
<Location /deny>
  FcgiAllow 127.0.0.1:*
</Location>
<VirtualHost *>
  ServerName same
</VirtualHost>
<VirtualHost *>
  ServerName less
  FcgiAllow None
</VirtualHost>
<VirtualHost *>
  ServerName localhost
</VirtualHost>
EOC
    # host and URL => status
    my @table = (
        'same /out/a.x' => 200, 'less /out/a.x' => 500,
        'same /out/in/a.x' => 200, 'same /out/none/a.x' => 500,
        'same /out/none/in/a.x' => 200, 'less /out/none/in/a.x' => 200,
        'same /deny/a.x' => 500, 'same /ht/a.x' => 500,
    );
    while (my ($name, $status) = splice @table, 0, 2) {
        my ($host, $url) = split ' ', $name;
        is(Client->get($httpd->port, $url, Host => $host)->status, $status,
           $name);
    }
    like($httpd->error_log, qr/\.htaccess: FcgiAllow not allowed here/,
         'not in .htaccess itself');
    push @servers, $httpd;
};

kill 'WINCH', map { $_->pid } @servers;
$_->ok_healthy for @servers;
done_testing;
